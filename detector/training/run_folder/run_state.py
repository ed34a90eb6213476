"""Where a run is: what it resumes from, beside weights, average and optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detector.training.distributed import DistributedContext
from detector.training.recipes.loop_recipe import LoopOptions
from detector.training.run_folder.run_files import History

NO_SCORE = -1.0  # below all scores


@dataclass
class RunState:
    epoch: int = 0  # finished ones
    batch: int = 0  # finished ones of the epoch under way
    sums: dict[str, float] = field(default_factory=dict)  # of these batches, see EpochSums
    best: float = NO_SCORE
    best_epoch: int = 0  # 0: none yet
    skipped: int = 0  # optimizer steps without a usable gradient
    seconds: float = 0.0  # that it took to get here, evaluations included
    history: History = field(default_factory=dict)

    def to_dict(self, best_name: str) -> dict[str, Any]:
        """As a checkpoint keeps it. Random numbers follow from the seed and this position."""
        return {
            "epoch": self.epoch,
            best_name: self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "seconds": round(self.seconds, 3),
            "position": {"batch": self.batch, "skipped": self.skipped, **self.sums},
        }

    def means(self, measures: Sequence[str]) -> dict[str, float | None]:
        """The training of the epoch under way, in the mean over its batches and steps."""
        sums = self.sums
        batches, steps = sums["losses"], sums["steps"]
        return {
            "epoch": self.epoch + 1,
            "train_loss": sums["loss"] / batches,
            **{f"train_{name}": sums[name] / batches for name in measures},
            "gradient_norm": sums["norm"] / steps if steps else None,
            "clipped": sums["clipped"] / steps if steps else None,
        }

    def is_over(self, options: LoopOptions) -> bool:
        """Are all epochs done, or has there been no better evaluation for too long?"""
        patience = options.stop_after * options.evaluate_every
        too_long = bool(patience) and self.epoch - self.best_epoch >= patience
        return self.epoch >= options.epochs or too_long

    def end_epoch(self, record: Mapping[str, float | None], score: float | None) -> bool:
        """Ends the epoch under way with a row of the history; whether its score is the best."""
        for name, value in record.items():
            self.history.setdefault(name, []).append(value)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        if score is None or score <= self.best:
            return False
        self.best, self.best_epoch = float(score), self.epoch
        return True

    @staticmethod
    def from_dict(checkpoint: Mapping[str, Any], best_name: str) -> "RunState":
        sums = dict(checkpoint["position"])
        return RunState(
            epoch=checkpoint["epoch"],
            batch=sums.pop("batch"),
            skipped=sums.pop("skipped"),
            seconds=checkpoint.get("seconds", 0.0),  # not of an earlier version
            sums=sums,
            best=checkpoint[best_name],
            best_epoch=checkpoint["best_epoch"],
            history=checkpoint["history"],
        )


class EpochSums:
    """Sums over the batches and steps of an epoch, kept on the device: no host sync.

    ``loss`` and the measures are summed where the loss is finite, ``losses`` is how many are;
    ``norm`` and ``clipped`` (of all gradients) where a step was taken, ``steps`` is how many were.
    """

    def __init__(
        self, measures: Sequence[str], start: Mapping[str, float], device: torch.device
    ) -> None:
        self._batch = ("loss", "losses", *measures)
        self._names = (*self._batch, "norm", "clipped", "steps")
        # Some devices (MPS) have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values = [start.get(name, 0.0) for name in self._names]
        self._sums = torch.tensor(values, device=device, dtype=dtype)

    def add_batch(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Returns whether the loss is finite, () bool on the device."""
        loss = terms["loss"].detach()
        finite = loss.isfinite()
        values = {"losses": torch.ones_like(loss)} | {
            name: terms[name].detach() for name in self._batch if name != "losses"
        }
        row = torch.stack([values[name].to(loss.dtype) for name in self._batch])
        self._sums[: len(row)] += row.where(finite, 0.0)
        return finite

    def add_step(self, norm: Tensor, skipped: Tensor, limit: float) -> None:
        row = torch.stack((norm, (norm > limit).to(norm.dtype), torch.ones_like(norm)))
        self._sums[-len(row) :] += row.where(~skipped, 0.0)

    def fetch(self, distributed: DistributedContext) -> dict[str, float]:
        """The mean over the processes; a host sync."""
        values = distributed.mean(self._sums).tolist()
        return dict(zip(self._names, values, strict=True))


def term_values(terms: Mapping[str, Tensor], measures: Sequence[str]) -> dict[str, float]:
    """The terms of a loss and the measures beside it, by their names in a log; a host sync."""
    values = torch.stack([value.detach() for value in terms.values()]).tolist()
    return {
        name if name in measures else f"loss/{name}": value
        for name, value in zip(terms, values, strict=True)
    }
