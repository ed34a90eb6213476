"""Loggers by name."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from detector.errors import UserError, did_you_mean
from detector.extras import missing
from detector.loggers.logger import Cell, Logger

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
LOGGERS: tuple[LoggerName, ...] = get_args(LoggerName)
_CLASSES = {"tensorboard": "TensorBoardLogger", "wandb": "WandbLogger", "mlflow": "MlflowLogger"}


class Loggers:
    """Several loggers, or none, as one."""

    def __init__(self, loggers: Sequence[Logger] = ()) -> None:
        self._loggers = loggers

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        for one in self._loggers:
            one.scalars(values, at, axis)

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        for one in self._loggers:
            one.table(name, header, rows)

    def close(self) -> None:
        with ExitStack() as stack:  # all of them, also where one fails
            for one in self._loggers:
                stack.callback(one.close)


def open_loggers(
    names: Sequence[LoggerName], folder: Path, settings: Mapping[str, Any], resumed_at: int | None
) -> Loggers:
    """The loggers of a run: its folder, its settings, and the step that it goes on from."""
    classes = [_logger(name) for name in names]
    return Loggers([make(folder, settings, resumed_at) for make in classes])


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Raises ``UserError`` where a logger's package is not installed."""
    for name in names:
        _logger(name)


def named_loggers(text: str) -> list[LoggerName]:
    """The loggers of an option such as ``tensorboard,wandb``."""
    found: list[LoggerName] = []
    for word in text.split(","):
        name = next((one for one in LOGGERS if one == word.strip()), None)
        if name is None:
            known = ", ".join(LOGGERS)
            near = did_you_mean(word, LOGGERS)
            raise UserError(f'--log is "{word.strip()}"; expected {known}{near}')
        found.append(name)
    check_loggers(found)
    return list(dict.fromkeys(found))


def _logger(name: LoggerName) -> Callable[[Path, Mapping[str, Any], int | None], Logger]:
    try:
        module = import_module(f"detector.loggers.{name}_logger")
    except ImportError:
        raise missing(f"logging to {name}", name) from None
    return getattr(module, _CLASSES[name])
