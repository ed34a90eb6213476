"""What the names of the thesis notebooks' checkpoints stand for."""

from dataclasses import asdict

from ablate_kit.anatomy.schemes import Scheme
from detector.network import legacy

SCHEME = Scheme(
    what="a notebook's checkpoint",
    recognizes=legacy.is_legacy,
    heads={"the notebooks": legacy.HEADS},
    levels=4,
    settings=lambda tensors: asdict(
        legacy.infer_config({name: tuple(one.shape) for name, one in tensors.items()})
    ),
    renamed=lambda names, config: legacy.to_ours(names, config, keep_foreign=True),
)
