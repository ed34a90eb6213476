"""Runs of MLflow: in a database in the run's folder, or where MLFLOW_TRACKING_URI says."""

import logging
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.loggers.logger import Cell, identity

with warnings.catch_warnings():  # of the library's own
    warnings.simplefilter("ignore")
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

_EXPERIMENT = "ablate"
_LONGEST = 500  # characters of a parameter that the library keeps


class MlflowLogger:
    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed_at: int | None) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        place = folder.resolve()
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=given or f"sqlite:///{place}/mlflow.db")
        known = self._client.get_experiment_by_name(_EXPERIMENT)
        artifacts = None if given else str(place / "mlartifacts")
        experiment = (
            known.experiment_id
            if known
            else self._client.create_experiment(_EXPERIMENT, artifact_location=artifacts)
        )

        def begin() -> str:
            run = self._client.create_run(experiment, run_name=folder.name).info.run_id
            flat = [Param(_name(key), str(value)[:_LONGEST]) for key, value in _flat(settings)]
            self._client.log_batch(run, params=flat)
            return str(run)

        self._run = identity(folder, "mlflow", begin, resumed=resumed_at is not None)

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, at) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        self._client.log_dict(self._run, columns, f"{name}.json")

    def close(self) -> None:
        self._client.set_terminated(self._run)


def _name(text: str) -> str:
    """Of the characters that the library takes."""
    return re.sub(r"[^\w\-./ ]", "_", text)


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in settings.items():
        inner = isinstance(value, Mapping)
        found += _flat(value, f"{above}{key}.") if inner else [(f"{above}{key}", value)]
    return found
