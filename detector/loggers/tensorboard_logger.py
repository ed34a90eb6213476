"""Event files for TensorBoard, in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from detector.loggers.logger import Cell


class TensorBoardLogger:
    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed_at: int | None) -> None:
        # What was logged after the checkpoint that a run goes on from comes again.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at)

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)
        self._writer.flush()

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        lines = [header, ["---"] * len(header), *rows]
        text = "\n".join(f"| {' | '.join(map(_text, line))} |" for line in lines)
        self._writer.add_text(name, text)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
