"""What watching the gradients costs, against no monitor and against a naive one, in one run.

    python benchmarks/gradients.py [--device cuda] [--preset thesis] [--batch-size 1] [--steps 3]
                                   [--rounds 3]

Time is CPU time of this process, so that others on the machine do not count, or that of a GPU that
has done all that it was given; each round takes every kind of step in turn, and ratios are medians
over the rounds. "naive" keeps a record per parameter and step with one ``.item()`` per statistic
and full copies of the weights on the CPU: the usual way, and the thesis notebook's. Memory is what
each monitor holds, its tensors and records.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from clock import Clock
from torch import Tensor, nn

from ablate_kit.gradients.monitor import GradientMonitor
from detector.config import preset
from detector.data.augmentation.letterbox import GRAY
from detector.data.shapes import Shapes
from detector.data.training_set import EpochSampler, Target, TrainingSet, loader
from detector.network.model import HybridDetector
from detector.training.criterion import criterion
from detector.training.devices import current_device, fork_rng, to_device
from detector.training.loss_settings import LossSettings


class Naive:
    """A dictionary per parameter and step, and two copies of the weights."""

    def __init__(self, model: nn.Module) -> None:
        self.named = list(model.named_parameters())
        self.start = {name: p.detach().cpu().clone() for name, p in self.named}
        self.last = {name: p.detach().cpu().clone() for name, p in self.named}
        self.records: dict[str, list[dict[str, float]]] = {name: [] for name, _ in self.named}
        self.updates = dict.fromkeys(self.start, 0)

    def gradients(self) -> None:
        for name, parameter in self.named:
            g = parameter.grad
            if g is None:
                continue
            self.records[name].append(
                {
                    "norm": g.norm().item(),
                    "mean": g.mean().item(),
                    "std": g.std().item() if g.numel() > 1 else 0.0,
                    "abs_mean": g.abs().mean().item(),
                    "zero": (g.abs() < 1e-10).float().mean().item(),
                }
            )

    def weights(self) -> None:
        for name, parameter in self.named:
            now = parameter.detach().cpu().clone()
            if (now - self.last[name]).abs().max().item() > 1e-8:
                self.updates[name] += 1
                self.last[name] = now

    def megabytes(self) -> tuple[float, float]:
        """What it holds after these steps, and what every step adds."""
        copies = sum(t.nbytes for d in (self.start, self.last) for t in d.values())
        steps = max(len(records) for records in self.records.values())
        records = sum(
            sys.getsizeof(one) + sum(sys.getsizeof(value) for value in one.values())
            for records in self.records.values()
            for one in records
        )
        return (copies + records) / 1e6, records / max(steps, 1) / 1e6


@dataclass(frozen=True)
class Row:
    """A step with one monitor, or none: seconds are medians."""

    monitor: str
    step_seconds: float
    alone_seconds: float  # of the monitor's own work
    share: float  # of that in a step without a monitor
    held_mb: float
    growth_mb: float  # in 1000 steps


@dataclass(frozen=True)
class Options:
    device: str = "cpu"
    preset: str = "thesis"
    image_size: int | None = None
    batch_size: int = 1
    steps: int = 3  # per round and kind
    rounds: int = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="thesis")
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="per round and kind")
    parser.add_argument("--rounds", type=int, default=3)
    options = Options(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    gpu = torch.device(options.device).type == "cuda"
    on = torch.cuda.get_device_name(options.device) if gpu else "1 thread, CPU seconds"
    model = _model(options)
    elements = sum(p.numel() for p in model.parameters())
    print(
        f"torch {torch.__version__}, {on}; {options.preset}, {elements:,} elements in "
        f"{len(list(model.parameters()))} tensors, {model.config.image_size} px, batch "
        f"{options.batch_size}; seconds a step"
    )
    heads = ("step", "alone", "share", "MB held", "MB/1000 steps")
    print(f"{'monitor':8}" + "".join(f"{head:>14}" for head in heads))
    found = rows(options)
    for row in found:
        print(
            f"{row.monitor:8}{row.step_seconds:14.3f}{row.alone_seconds:14.4f}"
            f"{row.share:14.2%}{row.held_mb:14.1f}{row.growth_mb:14.1f}"
        )
    ours, naive = found[1:]
    print(f"naive over ours: {naive.alone_seconds / ours.alone_seconds:.1f} times the time")


def rows(options: Options) -> list[Row]:
    """No monitor, ours, the naive one."""
    device = torch.device(options.device)
    with current_device(device), fork_rng(device):
        return _rows(options, device)


def _rows(options: Options, device: torch.device) -> list[Row]:
    torch.manual_seed(0)
    clock = Clock(device)
    model = _model(options).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    images, targets = to_device(_batch(model.config.image_size, options.batch_size), device)
    monitor, naive = GradientMonitor(model, optimizer, interval=10), Naive(model)

    def step(watch: Callable[[], object] = lambda: None) -> None:
        optimizer.zero_grad()
        out = model(images, targets, torch.Generator().manual_seed(0))
        criterion(out, targets, LossSettings())["loss"].backward()
        watch()
        optimizer.step()

    def with_naive() -> None:
        step(naive.gradients)
        naive.weights()

    step()  # warms up, and makes the optimizer's state
    kinds: dict[str, Callable[[], None]] = {"none": step, "ours": step, "naive": with_naive}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, run in kinds.items():
            with _attached(monitor if kind == "ours" else None):
                start = clock()
                for _ in range(options.steps):
                    run()
                taken[kind].append((clock() - start) / options.steps)
    # The monitors alone, without the step's own noise.
    alone = {"none": 0.0, **_alone(monitor, naive, optimizer, options.steps, clock)}
    base = statistics.median(taken["none"])
    held, growth = naive.megabytes()
    memory = {"none": (0.0, 0.0), "ours": (_megabytes(monitor), 0.0), "naive": (held, growth)}
    return [
        Row(
            kind,
            statistics.median(taken[kind]),
            alone[kind],
            alone[kind] / base,
            memory[kind][0],
            1000 * memory[kind][1],
        )
        for kind in kinds
    ]


def _model(options: Options) -> HybridDetector:
    config = preset(options.preset).replace(num_classes=len(Shapes.classes))
    if options.image_size:
        config = config.replace(image_size=options.image_size)
    return HybridDetector(config, seed=0)


def _alone(
    monitor: GradientMonitor,
    naive: Naive,
    optimizer: torch.optim.Optimizer,
    steps: int,
    clock: Clock,
) -> dict[str, float]:
    """Seconds per step of each monitor's own work: median, fetching included."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(max(steps, 2)):
        start = clock()
        for _ in range(monitor.interval):
            monitor._before(optimizer, (), {})
            monitor._after(optimizer, (), {})
        ours.append((clock() - start) / monitor.interval)
        start = clock()
        naive.gradients()
        naive.weights()
        theirs.append(clock() - start)
    return {"ours": statistics.median(ours), "naive": statistics.median(theirs)}


def _megabytes(monitor: GradientMonitor) -> float:
    """Both copies of the weights, and the accumulators of rows."""
    held: list[Tensor] = []
    for family, _ in monitor._families:
        held += [family.start, family.before, family.row_max]
    return sum(tensor.nbytes for tensor in held) / 1e6


@contextmanager
def _attached(monitor: GradientMonitor | None) -> Iterator[None]:
    if monitor is None:
        yield
        return
    with monitor:
        yield


def _batch(size: int, count: int) -> tuple[Tensor, list[Target]]:
    data = TrainingSet(Shapes(count, seed=1, split=0), size, GRAY, seed=0)
    batches = loader(data, EpochSampler(count), batch_size=count)
    images, targets = next(iter(batches))
    return images, targets


if __name__ == "__main__":
    main()
