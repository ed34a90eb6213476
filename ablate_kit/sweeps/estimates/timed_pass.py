"""How long a full pass over images takes, and the decoding of what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.inference.batches import groups
from ablate_kit.models.inference.detect import device_of, inference
from ablate_kit.models.inference.device import clock_on


@dataclass(frozen=True)
class PassTime:
    """Seconds for an image; ``decoding`` is what replay saves nothing of."""

    forward: float
    decoding: float

    def share_of_decoding(self, of_a_pass: float) -> float:
        """In a variant that takes such a share of a pass."""
        whole = self.forward * of_a_pass + self.decoding
        return self.decoding / whole if whole else 0.0


def timed_pass(adapter: Adapter, images: Sequence[Prepared]) -> PassTime:
    """The quicker of two."""
    device = device_of(adapter.module)
    clock = clock_on(device)
    forward = decoding = float("inf")
    with inference(adapter.module):
        for _ in range(2):
            passes = decodes = 0.0
            for group in (one.on(device) for one in groups(images)):
                began = clock()
                outputs = adapter.forward(group.inputs)
                ran = clock()
                adapter.decode(outputs, group.origins)
                passes, decodes = passes + ran - began, decodes + clock() - ran
            forward, decoding = min(forward, passes), min(decoding, decodes)
    return PassTime(forward / len(images), decoding / len(images))
