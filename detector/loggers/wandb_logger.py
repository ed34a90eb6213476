"""Runs of Weights & Biases. Nothing is sent anywhere unless WANDB_MODE=online says so."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.loggers.logger import Cell, identity

with warnings.catch_warnings():  # of the library's own
    warnings.simplefilter("ignore")
    import wandb


class WandbLogger:
    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed_at: int | None) -> None:
        name = identity(folder, "wandb", os.urandom(4).hex, resumed=resumed_at is not None)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ablate"),
            name=folder.name,
            id=name,
            resume="allow",
            dir=str(folder),
            mode=mode,
            config=dict(settings),
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True
            ),
        )
        self._defined: set[str] = set()

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        # An axis of its own: the library's steps only rise, and a resumed run goes back.
        if axis not in self._defined:
            self._run.define_metric(axis, hidden=True)
        for name in values.keys() - self._defined:
            self._run.define_metric(name, step_metric=axis)
        self._defined |= {axis, *values}
        self._run.log({axis: at, **values})

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        made = wandb.Table(
            columns=list(header), data=[list(row) for row in rows], allow_mixed_types=True
        )
        self._run.log({name: made})

    def close(self) -> None:
        self._run.finish()
