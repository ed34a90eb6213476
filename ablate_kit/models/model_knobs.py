"""Knobs of a detector: what can be turned without new weights.

``depth``: decoder layers that run, and the heads of the last of them give the detections.
``queries``: object queries; where the model chooses them by the image, so many of the best.
``size``: of the image that the network is given.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

from torch import Tensor, nn

from ablate_kit.models.adapter import Adapter

Knob = Literal["depth", "queries", "size"]
KNOBS: tuple[Knob, ...] = get_args(Knob)


class Knobs(Protocol):
    """Of one detector."""

    def now(self, knob: Knob) -> int:
        """What it is set to.

        Raises:
            UserError: the detector has no such knob; says why.
        """

    def configured(self, knob: Knob, value: int) -> Adapter:
        """The detector as if it had been configured so, with the weights of this one, which it
        shares; ``value`` is what the knob takes.

        Raises:
            UserError: the model cannot be built, or run, so.
        """

    def note(self, knob: Knob, value: int) -> str | None:
        """What to know of the detector in this setting, beside its numbers."""

    def reusable(self, adapter: Adapter) -> Sequence[nn.Module]:
        """Modules of this detector, or of one of ``configured``, whose output depends on their
        inputs and weights alone, whatever is set: where two detectors call one on the same values,
        one call is enough."""


def untrained(depth: int, biases: Tensor) -> str | None:
    """A note on the class head at which the decoder is left, if it is as it was made: training does
    not leave one bias to all classes."""
    if len(biases) < 2 or not bool((biases == biases[0]).all()):
        return None
    return (
        f"depth {depth}: the class head of that layer was not trained (all its biases are "
        f"{biases[0].item():.4g}), so this says nothing of the layer"
    )


def untrained_boxes(depth: int, biases: Tensor) -> str | None:
    """The same of the box head: one bias to all centers and one to all extents. Where layers refine
    boxes, each has a head, and only a loss on what a layer finds reaches it."""
    if any(not bool((half == half[0]).all()) for half in biases.chunk(2)):
        return None
    return (
        f"depth {depth}: the box head of that layer was not trained (its last biases are "
        f"{biases[0].item():.4g} and {biases[-1].item():.4g}, as where auxiliary_loss is false), "
        "so this says nothing of the layer"
    )
