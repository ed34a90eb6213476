"""The official repositories whose files become Hugging Face folders: a file and a line each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.official import (
    conditional_detr,
    dab_detr,
    deformable_detr,
    deimv2,
    detr,
    detrex,
    dfine,
    dino,
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
        counterpart: the Hugging Face model; raises ``UserError`` where there is no exact one.
        signs: tensors by which a file is told to be one of theirs: all of one of these sets.
    """

    counterpart: Callable[[Told], Counterpart]
    signs: tuple[set[str], ...]


FAMILIES: Mapping[str, Family] = {
    "facebookresearch/detr": Family(detr.counterpart, (detr.SIGNS,)),
    "Atten4Vis/ConditionalDETR": Family(conditional_detr.counterpart, (conditional_detr.SIGNS,)),
    "IDEA-Research/DAB-DETR": Family(dab_detr.counterpart, (dab_detr.SIGNS,)),
    # Before Deformable DETR, whose signs it has, too.
    "IDEA-Research/DINO": Family(dino.counterpart, (dino.SIGNS,)),
    "fundamentalvision/Deformable-DETR": Family(
        deformable_detr.counterpart, (deformable_detr.SIGNS,)
    ),
    "IDEA-Research/detrex": Family(detrex.counterpart, (detrex.SIGNS,)),
    "lyuwenyu/RT-DETR": Family(rtdetr.counterpart, (rtdetr.SIGNS,)),
    # Before D-FINE, whose signs it has, too.
    "Intellindust-AI-Lab/DEIMv2": Family(deimv2.counterpart, (deimv2.SIGNS,)),
    "Peterande/D-FINE": Family(dfine.counterpart, (dfine.SIGNS,)),
    "roboflow/rf-detr": Family(rf_detr.counterpart, (rf_detr.SIGNS,)),
    "Atten4Vis/LW-DETR": Family(lw_detr.counterpart, (lw_detr.SIGNS, lw_detr.OTHER_SIGNS)),
    "hustvl/YOLOS": Family(yolos.counterpart, (yolos.SIGNS,)),
}


def family_of(checkpoint: Checkpoint) -> str:
    """The name of the repository whose tensors these are; empty where it is none of them."""
    there = checkpoint.tensors.keys()
    return next(
        (name for name, one in FAMILIES.items() if any(signs <= there for signs in one.signs)), ""
    )
