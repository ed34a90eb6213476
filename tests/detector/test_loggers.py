"""What loggers keep, read back from their own files; nothing is sent anywhere."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from detector.errors import UserError
from detector.loggers.open_loggers import LOGGERS, check_loggers, named_loggers, open_loggers

SETTINGS = {"model": {"preset": "tiny"}, "training": {"lr": 0.5}}
HEADER, ROWS = ("variant", "AP"), [["a|b", 0.25], ["c", None]]


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def log(name: str, folder: Path, losses: Mapping[int, float], resumed_at: int | None) -> None:
    folder.mkdir(exist_ok=True)
    loggers = open_loggers([name], folder, SETTINGS, resumed_at)
    for step, loss in losses.items():
        loggers.scalars({"loss/loss": loss, "lr": 0.5}, step, "step")
    loggers.scalars({"epoch/mAP": 0.125}, 1, "epoch")
    loggers.table("changes", HEADER, ROWS)
    loggers.close()


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log("tensorboard", tmp_path, {10: 2.0, 20: 1.5, 30: 1.25}, None)
    log("tensorboard", tmp_path, {20: 1.0}, 20)  # resumed from what was saved at step 20
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss/loss")] == [(10, 2.0), (20, 1.0)]
    (text, *_) = events.Tensors("changes/text_summary")
    assert text.tensor_proto.string_val[0].decode().splitlines() == [
        "| variant | AP |", "| --- | --- |", "| a\\|b | 0.2500 |", "| c |  |",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own
def test_mlflow(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    log("mlflow", tmp_path / "run", {10: 2.0, 20: 1.5}, None)
    log("mlflow", tmp_path / "run", {30: 1.0}, 30)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/run/mlflow.db")
    experiment = client.get_experiment_by_name("ablate")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"model.preset": "tiny", "training.lr": "0.5"}
    history = client.get_metric_history(run.info.run_id, "loss/loss")
    assert [(one.step, one.value) for one in history] == [(10, 2.0), (20, 1.5), (30, 1.0)]
    (table,) = (tmp_path / "run/mlartifacts").rglob("changes.json")
    assert json.loads(table.read_text()) == {"variant": ["a|b", "c"], "AP": [0.25, None]}


def wandb_records(folder: Path) -> list[Any]:
    """The records of an offline run, which another process may still be writing."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(600):
        found = list(records_in(path.read_bytes()))
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError("the run was not written to its end")


def records_in(data: bytes) -> Iterator[Any]:
    """Those of a LevelDB log after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or a last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


@pytest.mark.filterwarnings("ignore:codecs.open:DeprecationWarning")  # wandb's, on Python 3.14
def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    log("wandb", tmp_path, {10: 2.0, 20: 1.5}, None)
    found: list[dict[str, Any]] = []
    names = set()
    for record in wandb_records(tmp_path):
        if record.run.run_id:
            names.add((record.run.run_id, record.run.project))
            config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
        if record.history.item:
            items = record.history.item
            found.append(
                {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in items}
            )
    kept = json.loads((tmp_path / "loggers.json").read_text())
    assert names == {(kept["wandb"], "ablate")}
    assert config["training"] == {"lr": 0.5}
    losses = [(one["step"], one["loss/loss"]) for one in found if "loss/loss" in one]
    assert losses == [(10, 2.0), (20, 1.5)]
    assert [(one["epoch"], one["epoch/mAP"]) for one in found if "epoch/mAP" in one] == [(1, 0.125)]
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["a|b", 0.25], ["c", None]]
    log("wandb", tmp_path, {30: 1.0}, 30)
    assert json.loads((tmp_path / "loggers.json").read_text()) == kept
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{kept['wandb']}"))) >= 1


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"detector.loggers.{name}_logger", None)
    said = rf'logging to {name} needs {name}, which is not installed: .*"ablate-kit\[{name}\]"'
    with pytest.raises(UserError, match=said):
        check_loggers([name])
    with pytest.raises(UserError, match=said):
        named_loggers(name)


def test_names_of_loggers() -> None:
    with pytest.raises(UserError, match=r'--log is "tensorbord"; .* did you mean "tensorboard"'):
        named_loggers("tensorbord")
    with pytest.raises(UserError, match='--log is ""; expected tensorboard, wandb, mlflow'):
        named_loggers("")
