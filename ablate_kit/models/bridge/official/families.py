"""The official repositories whose files become Hugging Face folders: a file and a line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.official import (
    conditional_detr,
    dab_detr,
    deformable_detr,
    detr,
    dfine,
    lw_detr,
    rf_detr,
    rtdetr,
    yolos,
)
from ablate_kit.models.bridge.official.told_by_file import Told


@dataclass(frozen=True)
class Family:
    """One repository's models.

    Attributes:
        recognizes: by the tensors, whether a file is one of theirs.
        counterpart: the Hugging Face model; raises ``UserError`` where there is no exact one.
    """

    recognizes: Callable[[Mapping[str, TensorInfo]], bool]
    counterpart: Callable[[Told], Counterpart]


FAMILIES: Mapping[str, Family] = {
    "facebookresearch/detr": Family(detr.recognizes, detr.counterpart),
    "Atten4Vis/ConditionalDETR": Family(conditional_detr.recognizes, conditional_detr.counterpart),
    "IDEA-Research/DAB-DETR": Family(dab_detr.recognizes, dab_detr.counterpart),
    "fundamentalvision/Deformable-DETR": Family(
        deformable_detr.recognizes, deformable_detr.counterpart
    ),
    "lyuwenyu/RT-DETR": Family(rtdetr.recognizes, rtdetr.counterpart),
    "Peterande/D-FINE": Family(dfine.recognizes, dfine.counterpart),
    "roboflow/rf-detr": Family(rf_detr.recognizes, rf_detr.counterpart),
    "Atten4Vis/LW-DETR": Family(lw_detr.recognizes, lw_detr.counterpart),
    "hustvl/YOLOS": Family(yolos.recognizes, yolos.counterpart),
}


def family_of(checkpoint: Checkpoint) -> str:
    """The name of the repository whose tensors these are; empty where it is none of them."""
    names = (name for name, one in FAMILIES.items() if one.recognizes(checkpoint.tensors))
    return next(names, "")
