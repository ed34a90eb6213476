"""Training and evaluating the runs of a study, one after the other.

A study's folder:

    ledger.jsonl          a line per finished run: its key, its numbers, its seconds
    runs/ARM-seedN/       the training run as `ablate train` leaves it, run.json with its key, and
                          detections.npz, the final weights' detections on the validation images
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from pydantic import BaseModel, ConfigDict

from ablate_kit import text as safe
from ablate_kit.ablations.pretrained_parts import detector_names, fill, graft
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.metrics.stored import save_npz
from ablate_kit.models.detect import detect_all
from ablate_kit.models.frameworks.hybrid import HybridAdapter
from ablate_kit.models.training_evaluator import evaluator
from ablate_kit.models.truth import ground_truth
from ablate_kit.retraining.retrain_recipe import Run
from detector.data.dataset import Dataset, check_scorable
from detector.disk.atomic import new_text
from detector.disk.lines import append_line, read_rows
from detector.network.model import HybridDetector
from detector.training.detection_task import detection_trainer
from detector.training.task import Progress


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    arm: str
    seed: int
    key: str
    data: str  # digest of the annotations that it was trained and evaluated on
    seconds: float
    evaluation: Evaluation
    history: dict[str, list[float | None]]

    def line(self) -> str:
        values = {**self.__dict__, "evaluation": self.evaluation.to_dict()}
        return safe.to_json(values)

    @staticmethod
    def of(row: Any) -> "RunResult":
        values = _Line.model_validate(row).model_dump()
        return RunResult(**values | {"evaluation": Evaluation.from_dict(values["evaluation"])})


class _Line(BaseModel):
    """An outcome as the ledger holds it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    arm: str
    seed: int
    key: str
    data: str
    seconds: float
    evaluation: dict[str, Any]
    history: dict[str, list[float | None]]


def finished(folder: Path, runs: Sequence[Run]) -> dict[str, RunResult]:
    """What is done of ``runs``, by name.

    Raises ``UserError`` where the folder holds a run of the same name and other settings.
    """
    outcomes = read_rows(folder / "ledger.jsonl", RunResult.of, "a study's ledger")
    by_name = {(one.arm, one.seed): one for one in outcomes}
    done = {}
    for run in runs:
        outcome = by_name.get((run.arm, run.seed))
        if outcome is not None:
            _refuse_other(folder, run, outcome.key)
            done[run.name] = outcome
    return done


def retrain_all(
    runs: Sequence[Run],
    folder: Path,
    *,
    device: str = "cpu",
    progress: Callable[[Run], Progress],
    tell: Callable[[Run, RunResult, bool], None],
) -> list[RunResult]:
    """Trains what is not done yet, and returns the outcomes of all runs.

    ``tell`` hears of every run as it is there, and whether it had been done before.
    """
    done = finished(folder, runs)
    outcomes = []
    data = _Data()
    for run in runs:
        before = done.get(run.name)
        training, validation, truth, digest = data.of(run)
        if before is not None and before.data != digest:
            raise UserError(
                f"{folder} holds {run.name} with other annotations; choose another folder"
            )
        outcome = before
        if outcome is None:
            outcome = _train(run, folder, training, validation, truth, digest, device, progress)
            append_line(folder / "ledger.jsonl", outcome.line())
        tell(run, outcome, before is not None)
        outcomes.append(outcome)
    return outcomes


def _train(
    run: Run,
    folder: Path,
    training: Dataset,
    validation: Dataset,
    truth: GroundTruth,
    digest: str,
    device: str,
    progress: Callable[[Run], Progress],
) -> RunResult:
    place = folder / "runs" / run.name
    place.mkdir(parents=True, exist_ok=True)
    note = place / "run.json"
    if note.exists():
        _refuse_other(folder, run, _key_in(note))
    new_text(note, json.dumps({"key": run.key}) + "\n", overwrite=True)
    started = time.monotonic()
    trainer = detection_trainer(
        run.recipe, training, place, evaluate=evaluator(validation, device), device=device
    )
    resume = (place / "latest.pth").exists()
    if run.pretrained is not None and not resume:
        trainer.set_initial_weights(_graft(trainer.model, run))
    trainer.run(progress(run), resume=resume)
    average = trainer.ema.applied(trainer.model) if trainer.ema else nullcontext()
    with average:
        if run.weights == "best":
            weights = safetensors.torch.load_file(place / "model.safetensors", device=device)
            trainer.model.load_state_dict(weights)
        adapter = HybridAdapter(trainer.model.eval(), validation.classes, {}, device)
        found = detect_all(adapter, validation)
    save_npz(place / "detections.npz", found, truth)
    return RunResult(
        arm=run.arm,
        seed=run.seed,
        key=run.key,
        data=digest,
        seconds=round(time.monotonic() - started, 1),
        evaluation=evaluate(truth, found),
        history=trainer.state.history,
    )


def _key_in(note: Path) -> str:
    try:
        return str(json.loads(note.read_bytes())["key"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{note} is no note of a run's key; remove its folder") from None


def _graft(model: HybridDetector, run: Run) -> dict[str, str]:
    """Puts the pretrained parts of a run into the model; says where they are from."""
    assert run.pretrained is not None  # noqa: S101
    with open_checkpoint(run.pretrained) as given:
        state, names = model.state_dict(), detector_names(given.tensors, model.config)
        done = graft(state, given.tensors, run.parts, names)
        fill(state, done, given.read)
    if done.mismatched:
        name, (here, there) = next(iter(done.mismatched.items()))
        raise UserError(
            f"arm {run.arm}: {len(done.mismatched)} tensors of {run.pretrained} have another "
            f'shape: "{name}" is {there} there and {here} here'
        )
    return {
        "path": str(run.pretrained),
        "sha256": sha256(run.pretrained),
        "parts": ", ".join(run.parts),
        "tensors": str(len(done.loaded)),
    }


class _Data:
    """The data of each recipe, read once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Dataset, Dataset, GroundTruth, str]] = {}

    def of(self, run: Run) -> tuple[Dataset, Dataset, GroundTruth, str]:
        key = run.recipe.data.model_dump_json()
        if key not in self._known:
            training, validation = run.recipe.data.datasets()
            check_scorable(validation)
            truth = ground_truth(validation)
            content = hashlib.sha256()
            for one in (ground_truth(training), truth):
                for column in (one.image_ids, one.image, one.boxes, one.labels, one.ignore):
                    content.update(f"{len(column)} ".encode())
                    content.update(np.ascontiguousarray(column).tobytes())
            self._known[key] = training, validation, truth, content.hexdigest()[:24]
        return self._known[key]


def _refuse_other(folder: Path, run: Run, key: str) -> None:
    if key != run.key:
        raise UserError(
            f"{folder} holds {run.name} with other settings (key {key[:8]}, now {run.key[:8]}); "
            "choose another folder"
        )
