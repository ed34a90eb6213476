"""The folder of a training run: checkpoints, history, log and curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.checkpoint import save_checkpoint
from detector.disk.atomic import new_text, remove_temporaries
from detector.disk.lines import append_line
from detector.loggers.open_loggers import LoggerName, Loggers, check_loggers, open_loggers
from detector.training.run_folder.training_curves import draw_curves
from detector.yaml_values import write_yaml

History = dict[str, list[float | None]]


class RunFiles:
    """Writes everything about a run; every file is whole at any moment, the log up to a line."""

    def __init__(self, folder: Path, *, log: Sequence[LoggerName]) -> None:
        check_loggers(log)
        self.folder = folder
        self.latest, self.best = folder / "latest.pth", folder / "best.pth"
        self.log, self.skipped = folder / "log.jsonl", folder / "skipped.jsonl"
        self._names, self._loggers = log, Loggers()

    def start(
        self, recipe: Mapping[str, Any], origin: Mapping[str, str], resumed_at: int | None
    ) -> None:
        """The resolved recipe, the origin of the first weights if there is one, and logs that end
        before optimizer step ``resumed_at``."""
        remove_temporaries(self.folder)
        text = write_yaml(dict(recipe))
        new_text(self.folder / "recipe.yaml", text, overwrite=True)
        if origin:
            text = json.dumps(dict(origin), indent=2) + "\n"
            new_text(self.folder / "origin.json", text, overwrite=True)
        self._cut(self.log, resumed_at or 0)
        if self.skipped.exists():
            self._cut(self.skipped, resumed_at or 0)
        self._loggers = open_loggers(self._names, self.folder, recipe, resumed_at)

    def close(self) -> None:
        """No more is written."""
        self._loggers.close()

    def _cut(self, path: Path, step: int) -> None:
        """What was written after the checkpoint that the run goes on from will come again."""
        lines = path.read_text().splitlines() if path.exists() else []
        text = "".join(f"{line}\n" for line in lines if _step(line) < step)
        new_text(path, text, overwrite=True)

    def save(self, checkpoint: Mapping[str, Any], *, best: bool = False) -> None:
        """``latest.pth``, and before it ``best.pth`` if it is that."""
        for path in (self.best, self.latest)[not best :]:
            save_checkpoint(path, checkpoint)

    def save_history(self, history: History) -> None:
        text = json.dumps(history, indent=2)
        new_text(self.folder / "history.json", text, overwrite=True)
        draw_curves(history, self.folder / "curves.png")
        last = {f"epoch/{name}": row[-1] for name, row in history.items() if name != "epoch"}
        self._loggers.scalars(_given(last), len(history["epoch"]), "epoch")

    def add(self, record: Mapping[str, Any]) -> None:
        """One line of the log."""
        append_line(self.log, json.dumps(record), sync=False)
        values = {name: value for name, value in record.items() if name not in ("step", "epoch")}
        self._loggers.scalars(_given(values), record["step"], "step")

    def add_skipped(self, record: Mapping[str, Any]) -> None:
        """A batch that gave no usable gradient."""
        append_line(self.skipped, json.dumps(record), sync=False)


def _step(line: str) -> float:
    """The step of a line of the log; beyond all others for one that was cut off."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")


def _given(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
