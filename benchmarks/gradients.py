"""What watching the gradients costs, against no monitor and against a naive one, in one run.

    python benchmarks/gradients.py [--preset thesis] [--batch-size 1] [--steps 3] [--rounds 3]

Time is CPU time of this process, so that others on the machine do not count; each round takes
every kind of step in turn, and ratios are medians over the rounds. "naive" keeps a record per
parameter and step with one ``.item()`` per statistic and full copies of the weights on the CPU: the
usual way, and the thesis notebook's. Memory is what each monitor holds, its tensors and records.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ablate_kit.gradients.monitor import GradientMonitor
from detector.config import preset
from detector.data.letterbox import GRAY
from detector.data.shapes import Shapes
from detector.data.training import EpochSampler, Target, TrainingSet, loader
from detector.network.model import HybridDetector
from detector.training.criterion import LossSettings, criterion


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="thesis")
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="per round and kind")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = preset(options.preset).replace(num_classes=len(Shapes.classes))
    if options.image_size:
        config = config.replace(image_size=options.image_size)
    model = HybridDetector(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    images, targets = _batch(config.image_size, options.batch_size)
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
    rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, run in kinds.items():
            with _attached(monitor if kind == "ours" else None):
                start = time.process_time()
                for _ in range(options.steps):
                    run()
                rounds[kind].append((time.process_time() - start) / options.steps)
    # The monitors alone, without the step's own noise.
    alone = _alone(monitor, naive, optimizer, options.steps)
    elements = sum(p.numel() for p in model.parameters())
    tensors = sum(1 for _ in model.parameters())
    print(
        f"torch {torch.__version__}, 1 thread; {options.preset}, {elements:,} elements in "
        f"{tensors} tensors, {config.image_size} px, batch {options.batch_size}; CPU seconds a step"
    )
    base = statistics.median(rounds["none"])
    held, growth = naive.megabytes()
    rows = (
        ("none", 0.0, 0.0, 0.0),
        ("ours", alone["ours"], _megabytes(monitor), 0.0),
        ("naive", alone["naive"], held, growth),
    )
    heads = ("step", "alone", "share", "MB held", "MB/1000 steps")
    print(f"{'monitor':8}" + "".join(f"{head:>14}" for head in heads))
    for kind, seconds, megabytes, more in rows:
        print(
            f"{kind:8}{statistics.median(rounds[kind]):14.3f}{seconds:14.4f}"
            f"{seconds / base:14.2%}{megabytes:14.1f}{1000 * more:14.1f}"
        )
    print(f"naive over ours: {alone['naive'] / alone['ours']:.1f} times the time")


def _alone(
    monitor: GradientMonitor, naive: Naive, optimizer: torch.optim.Optimizer, steps: int
) -> dict[str, float]:
    """Seconds per step of each monitor's own work: median, fetching included."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(max(steps, 2)):
        start = time.process_time()
        for _ in range(monitor.interval):
            monitor._before(optimizer, (), {})
            monitor._after(optimizer, (), {})
        ours.append((time.process_time() - start) / monitor.interval)
        start = time.process_time()
        naive.gradients()
        naive.weights()
        theirs.append(time.process_time() - start)
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
