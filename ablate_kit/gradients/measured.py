"""What was measured of a training, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

from ablate_kit.gradients.counters import Counters, Flags, Floats
from ablate_kit.gradients.thresholds import GradientThresholds
from ablate_kit.gradients.timeline import Timeline

CHANGES = ("change_max", "change_mean", "mean_now", "mean_start", "norm_start", "largest_start")


@dataclass(frozen=True)
class Measured:
    """What a monitor knows; arrays are (T,) in the order of ``names`` unless said otherwise."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    elements: Mapping[str, int]  # of every parameter of the model, in its order
    frozen: tuple[str, ...]  # parameters that nobody meant to train; not measured
    thawed: tuple[str, ...]  # needed no gradient when the monitor was made, and did later: neither
    trainable: Flags  # needed a gradient in some step; the others were frozen all along
    in_optimizer: Flags
    decays: Flags  # weight decay acts on it
    adaptive: bool  # the optimizer is one of Adam's family
    limits: GradientThresholds
    counters: Counters
    timeline: Timeline
    changes: Mapping[str, Floats]  # since the start; CHANGES
    rows: tuple[Floats, ...]  # of each tensor: largest |gradient| of each row over all steps
    entries: Mapping[int, int | None]  # tensors whose rows are looked up, and the row of padding
    skipped: int  # steps that a gradient scaler took back
    clipped: bool  # False: gradients were read before the user's clipping
    notebook: Mapping[str, Flags] | None  # its categories, and "healthy"
