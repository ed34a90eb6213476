"""What the names of the thesis notebooks' checkpoints stand for."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ablate_kit.anatomy.head_counts import Shaped
from ablate_kit.anatomy.schemes import Scheme
from detector.config import HybridConfig
from detector.network import legacy


def _settings(tensors: Mapping[str, Shaped]) -> dict[str, Any]:
    return asdict(
        legacy.infer_config({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    )


def _renamed(names: Iterable[str], config: HybridConfig) -> dict[str, str]:
    return legacy.to_ours(names, config, keep_foreign=True)


SCHEME = Scheme(
    what="a notebook's checkpoint",
    recognizes=legacy.is_legacy,
    heads={"the notebooks": legacy.HEADS},
    levels=4,
    settings=_settings,
    renamed=_renamed,
)
