"""What the smaller model and the original cost, measured side by side."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.costs.cost import Cost
from ablate_kit.costs.measure import Opener, cost_of, devices_here, file_bytes, measure
from ablate_kit.models.adapter import Adapter
from ablate_kit.shrinking.equality import images_of
from detector.data.dataset import Dataset


def costs_of_both(
    both: Sequence[tuple[Checkpoint, Adapter]],
    opened_on: Callable[[Checkpoint, str], Adapter],
    dataset: Dataset | None,
    *,
    latency: bool,
) -> list[Cost]:
    """Of two models that are open on the CPU; ``latency``: and memory, there and on a GPU where
    there is one, for which they are ``opened_on`` it."""

    def opener(checkpoint: Checkpoint, adapter: Adapter) -> Opener:
        return lambda device: adapter if device == "cpu" else opened_on(checkpoint, device)

    image = images_of(dataset)[0]
    if latency:
        files = [checkpoint.path for checkpoint, _ in both]
        openers = [opener(*one) for one in both]
        return measure(openers, image, files=files, devices=devices_here())
    return [
        replace(cost_of(adapter, image), file_bytes=file_bytes(checkpoint.path))
        for checkpoint, adapter in both
    ]
