"""--log of sweeps and of studies of retrained arms, read back from TensorBoard's files."""

import json
from pathlib import Path

import pytest
import yaml

from ablate_kit.reports.logged import log_sweep
from tests.ablate_kit.conftest import Run

STUDY = {
    "base": "builtin:shapes_tiny",
    "set": {
        "model.image_size": 64, "model.widths": [16, 32, 16, 16], "model.depths": [1, 1, 1, 1],
        "model.d_model": 32, "model.queries": 6, "model.decoder_layers": 1,
        "data.train": 4, "data.val": 2, "training.epochs": 1, "training.batch_size": 2,
    },
    "seeds": [1],
    "arms": [{"name": "baseline"}],
}  # fmt: skip


def test_a_sweep(tmp_path: Path, run: Run) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    run("sweep", "builtin:shapes_tiny", "--modules", "backbone.csi", "--shapes", "--limit", 2,
        "--log", "tensorboard", "-o", out)  # fmt: skip
    log_sweep(["tensorboard"], out)  # takes the place of what was logged
    events = reader.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    variants = json.loads((out / "report/results.json").read_text())["variants"]
    expected = [one["overall"]["AP"] for one in variants.values()]
    assert len(expected) == 2
    written = [(one.step, one.value) for one in events.Scalars("overall/AP")]
    assert written == [(i, pytest.approx(value, rel=1e-6)) for i, value in enumerate(expected)]
    text = events.Tensors("changes/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "| 1.0000 | backbone.csi | AP | " in text


def test_a_study_of_retrained_arms(tmp_path: Path, run: Run) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    plain = run("retrain", study, "--dry-run").splitlines()[1]
    assert run("retrain", study, "--dry-run", "--log", "tensorboard").splitlines()[1] == plain
    out = tmp_path / "out"
    run("retrain", study, "--log", "tensorboard", "-o", out)
    arm = reader.EventAccumulator(str(out / "runs/baseline-seed1/tensorboard"))
    arm.Reload()
    assert [one.step for one in arm.Scalars("epoch/train_loss")] == [1]
    whole = reader.EventAccumulator(str(out / "tensorboard"))
    whole.Reload()
    text = whole.Tensors("arms/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| baseline |" in text


def test_an_unknown_logger_is_told_before_anything_runs(tmp_path: Path, refuse: Run) -> None:
    out = tmp_path / "out"
    for verb, what in (("sweep", ("--modules", "all", "--shapes")), ("train", ()), ("retrain", ())):
        source = "builtin:modules_tiny" if verb == "retrain" else "builtin:shapes_tiny"
        said = refuse(verb, source, *what, "--log", "wandbb", "-o", out)
        assert 'did you mean "wandb"?' in said
    assert not out.exists()
