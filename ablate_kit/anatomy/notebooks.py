"""What the names of the thesis notebooks' checkpoints stand for; nothing else knows them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ablate_kit.anatomy.head_counts import Shaped
from detector.network import legacy

is_notebook = legacy.is_legacy

HEADS = {"the notebooks": legacy.HEADS}
LEVELS = 4


def settings(tensors: Mapping[str, Shaped]) -> dict[str, Any]:
    """The configuration, which their files do not hold."""
    return asdict(
        legacy.infer_config({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    )
