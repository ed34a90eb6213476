"""How far a training run is: a bar for the epoch under way, and a line for each that is done."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ablate_kit.cli.output import say
from ablate_kit.plural import duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

SHOWN = ("labels", "boxes", "giou")  # loss terms beside the progress bar


def mean_average_precisions(record: Mapping[str, float | None]) -> str:
    line = ""
    for name, label in (("val", ""), ("val_ema", "average "), ("train", "train ")):
        if record.get(f"{name}_mAP_50_95") is not None:
            line += f"  {label}mAP {record[f'{name}_mAP_50_95']:.4f}"
            line += f"  mAP50 {record[f'{name}_mAP_50']:.4f}"
    return line


class Display:
    def __init__(
        self,
        bars: "Bars",
        *,
        first: bool,
        title: str = "",
        result: Callable[[Mapping[str, float | None]], str] = mean_average_precisions,
    ) -> None:
        self.bars = bars
        self.first, self.result = first, result
        self.title = f"{title}  " if title else ""  # of a run among others: no line per epoch
        self.task = bars.add_task("", total=None, visible=first)
        self.epoch, self.epochs = "", 0
        self.left = self.taken = 0  # batches of the run
        self.began = time.monotonic()
        self.after_epoch: Callable[[], None] | None = None

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        if not self.epochs and self.first and (epoch > 1 or done):
            place = f"epoch {epoch} of {epochs}, after {done} of {batches} batches"
            say(f"{self.title}resuming with {place}")
        self.epochs, self.left = epochs, (epochs - epoch + 1) * batches - done
        self.epoch = f"{self.title}epoch {epoch}/{epochs}"
        self.bars.reset(
            self.task, total=batches, completed=done, description=self.epoch, left=False
        )

    def batch(self, values: Mapping[str, float] | None) -> None:
        self.bars.advance(self.task)
        self.taken, self.left = self.taken + 1, self.left - 1
        if values is None:
            return
        terms = ", ".join(
            f"{name} {values[f'loss/{name}']:.2f}" for name in SHOWN if f"loss/{name}" in values
        )
        rest = duration(self.left * (time.monotonic() - self.began) / self.taken)
        parts = [
            f"loss {values['loss/loss']:.3f} ({terms})",
            f"lr {values['lr']:.2g}",
            f"norm {values['norm/all']:.3g}",
            f"{values['images_per_second']:.1f} images/s",
            f"{values['memory_gb']:.1f} GB",
            f"run ends in {rest}",
        ]
        self.bars.update(self.task, description="  ".join((self.epoch, *parts)))

    def finish(self, record: Mapping[str, float | None]) -> None:
        if self.after_epoch is not None:
            self.after_epoch()
        if self.title and record["epoch"] == self.epochs:
            self.bars.remove_task(self.task)
        if not self.first or self.title:
            return
        line = f"{self.epoch}  loss {record['train_loss']:.3f}{self.result(record)}"
        wait = record["data_wait"] or 0.0
        say(f"{line}  {record['train_seconds']:.1f} s, {wait:.0%} waiting for data")
