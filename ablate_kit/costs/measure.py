"""Everything that models cost, measured side by side.

Examples:
    before, after = measure([lambda device: original, lambda device: smaller], image)
    print(cost_table(before, after).text())  # of reports.cost_reports.cost_table
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from ablate_kit.checkpoints.archive import open_archive
from ablate_kit.costs.cost import Cost, Setup
from ablate_kit.costs.latency import USUAL, Latency, TimingRounds, take_turns
from ablate_kit.costs.one_pass import flops_of, peak_bytes
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.inference.device import waiting_for
from detector.data.dataset import Pixels

BATCHES = (1, 8)

Opener = Callable[[str], Adapter]  # the model on a device


def measure(
    openers: Sequence[Opener],
    image: Pixels,
    *,
    files: Sequence[Path | None] = (),
    devices: Sequence[str] = ("cpu",),
    batches: Sequence[int] = BATCHES,
    rounds: TimingRounds = USUAL,
) -> list[Cost]:
    """The cost of each of several models, of which the first is the original.

    Args:
        image: that all are run on; a batch holds it several times.
        files: the file or folder that each is in.
    """
    places = files or [None] * len(openers)
    latency: list[dict[Setup, Latency]] = [{} for _ in openers]
    peak: list[dict[Setup, int]] = [{} for _ in openers]
    whole: list[tuple[int, int, tuple[int, int]]] = []
    for device in devices:
        adapters = [opened(device) for opened in openers]
        with ExitStack() as stack:
            for one in adapters:
                stack.enter_context(inference(one.module, deterministic=False))
            if not whole:
                whole = [_whole(one, image) for one in adapters]
            for batch in batches:
                given = [_batch(one, image, batch, device) for one in adapters]
                runs = [partial(one.forward, x) for one, x in zip(adapters, given, strict=True)]
                for i, (one, run) in enumerate(zip(adapters, runs, strict=True)):
                    peak[i][device, batch] = peak_bytes(run, one.module, given[i])
                for i, taken in enumerate(
                    take_turns(runs, rounds, waiting_for(torch.device(device)))
                ):
                    latency[i][device, batch] = taken
    return [
        Cost(*whole[i], latency[i], peak[i], None if place is None else file_bytes(place))
        for i, place in enumerate(places)
    ]


def cost_of(adapter: Adapter, image: Pixels) -> Cost:
    """What needs no clock: parameters and FLOPs."""
    with inference(adapter.module, deterministic=False):
        return Cost(*_whole(adapter, image))


def devices_here() -> tuple[str, ...]:
    """The CPU, and a GPU where there is one."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def file_bytes(place: Path) -> int:
    """Of a file of weights, or of those in a folder, which may hold an optimizer's state, too."""
    with open_archive(place) as archive:
        return sum(one.stat().st_size for one in archive.files)


def _whole(adapter: Adapter, image: Pixels) -> tuple[int, int, tuple[int, int]]:
    inputs = dict(adapter.prepare(image).inputs)
    largest = max((one for one in inputs.values() if one.ndim == 4), key=lambda one: one.numel())
    flops = flops_of(partial(adapter.forward, inputs), adapter.module)
    # Two parameters may be one tensor.
    learned = {(one.data_ptr(), one.shape): one.numel() for one in adapter.module.parameters()}
    parameters = sum(learned.values())
    return parameters, flops, (int(largest.shape[2]), int(largest.shape[3]))


def _batch(adapter: Adapter, image: Pixels, count: int, device: str) -> dict[str, torch.Tensor]:
    return {
        name: torch.cat([one] * count).to(device)
        for name, one in adapter.prepare(image).inputs.items()
    }
