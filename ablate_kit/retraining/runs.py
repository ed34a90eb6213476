"""Training and evaluating the runs of a study, one after the other.

A study's folder:

    ledger.jsonl          a line per finished run: its key, its numbers, its seconds
    runs/ARM-seedN/       the training run as `ablate train` leaves it, run.json with its key, and
                          detections.npz, the final weights' detections on the validation images
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, field_validator

from ablate_kit import text as safe
from ablate_kit.ablations.pretrained_parts import Graft, detector_names, fill, graft
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.errors import UserError
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.metrics.stored import save_npz
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.inference.detect import detect_all
from ablate_kit.models.inference.training_evaluator import evaluator
from ablate_kit.models.labels.classes import unlearned_classes
from ablate_kit.plural import counted
from ablate_kit.retraining.retrain_recipe import Run
from ablate_kit.retraining.run_data import RunData
from detector.disk.atomic import new_text
from detector.disk.lines import append_line, read_rows
from detector.disk.sealed import sealed
from detector.network.model import HybridDetector
from detector.training.detection_task import detection_trainer
from detector.training.task import Progress

DETECTIONS = "detections.npz"  # in the folder of a run
CURVES = ("train_loss", "val_mAP_50_95")
"""What of a run's history is drawn."""


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
    images: str | None = None  # digest of their files; None where there are none, or not noted

    def line(self) -> str:
        values = {**self.__dict__, "evaluation": self.evaluation.to_dict()}
        return safe.to_json(sealed(values))

    @staticmethod
    def of(row: Any) -> "RunResult":
        values = _Line.model_validate(row).model_dump()
        return RunResult(**values | {"evaluation": Evaluation.from_dict(values["evaluation"])})


class _Line(BaseModel):
    """An outcome as the ledger holds it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    arm: str
    seed: int
    key: str
    data: str
    seconds: float
    evaluation: dict[str, Any]
    history: dict[str, list[float | None]]
    images: str | None = None

    @field_validator("history")
    @classmethod
    def _drawn(cls, history: dict[str, Any]) -> dict[str, Any]:
        lengths = {len(history.get(name, ())) for name in ("epoch", *CURVES)}
        if len(lengths) > 1 or not max(lengths):
            raise ValueError("an epoch lacks a number")
        return history


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
    read: dict[str, RunData] | None = None,
) -> list[RunResult]:
    """Trains what is not done yet, and returns the outcomes of all runs.

    ``tell`` hears of every run as it is there, and whether it had been done before; what is
    ``read`` of data is kept there (``RunData.of``).
    """
    done = finished(folder, runs)
    read = {} if read is None else read
    data = [RunData.of(run, read) for run in runs]
    for run, given in zip(runs, data, strict=True):
        _check(run, given, runs[0], data[0])
        before = done.get(run.name)
        if before is not None:
            _refuse_other_data(folder, run, before.data, before.images, given)
            if [*before.evaluation.per_class] != [*given.validation.classes]:
                raise _other(folder, run, "annotations")
    outcomes = []
    for run, given in zip(runs, data, strict=True):
        outcome = before = done.get(run.name)
        if outcome is None:
            outcome = _train(run, folder, given, device, progress)
            append_line(folder / "ledger.jsonl", outcome.line())
        tell(run, outcome, before is not None)
        outcomes.append(outcome)
    return outcomes


def _check(run: Run, data: RunData, baseline: Run, of_baseline: RunData) -> None:
    """Raises ``UserError`` for a run that cannot be trained, or not be compared."""
    if data.truth_digest != of_baseline.truth_digest:
        raise UserError(
            f"arm {run.arm} is evaluated on other images or objects than {baseline.arm}, which it "
            "is compared with"
        )
    unlearned_classes(data.training.classes, data.validation.classes)
    try:
        config = run.recipe.config(data.training.classes)
    except UserError as error:
        raise UserError(f"arm {run.arm}: {error}") from None
    if run.pretrained is not None:
        with torch.device("meta"):
            model = HybridDetector(config)
        with open_checkpoint(run.pretrained) as given:
            _matched(model, run, given)


def _train(
    run: Run, folder: Path, data: RunData, device: str, progress: Callable[[Run], Progress]
) -> RunResult:
    place = folder / "runs" / run.name
    place.mkdir(parents=True, exist_ok=True)
    note = place / "run.json"
    if note.exists():
        key, digest, images = _noted(note)
        _refuse_other(folder, run, key)
        _refuse_other_data(folder, run, digest, images, data)
    text = json.dumps({"key": run.key, "data": data.digest, "images": data.images}) + "\n"
    new_text(note, text, overwrite=True)
    classes = data.training.classes
    judge = evaluator(data.validation, classes, device)
    trainer = detection_trainer(run.recipe, data.training, place, evaluate=judge, device=device)
    resume = trainer.files.latest.exists()
    if run.pretrained is not None and not resume:
        trainer.set_initial_weights(_graft(trainer.model, run))
    trainer.run(progress(run), resume=resume)
    trained, started = trainer.state, time.monotonic()
    if run.weights == "best":
        trainer.restore(trainer.files.best)
    average = trainer.ema.applied(trainer.model) if trainer.ema else nullcontext()
    with average:
        adapter = HybridAdapter(trainer.model.eval(), tuple(classes), {}, device)
        found = detect_all(adapter, data.validation)
    save_npz(place / DETECTIONS, found, data.truth)
    return RunResult(
        arm=run.arm,
        seed=run.seed,
        key=run.key,
        data=data.digest,
        seconds=round(trained.seconds + time.monotonic() - started, 1),
        evaluation=evaluate(data.truth, found),
        history=trained.history,
        images=data.images,
    )


def _noted(note: Path) -> tuple[str, str | None, str | None]:
    """The key of a run that was begun, and the digests of its annotations and images."""
    try:
        values = json.loads(note.read_bytes())
        return str(values["key"]), values.get("data"), values.get("images")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{note} is no note of a run's key; remove its folder") from None


def _graft(model: HybridDetector, run: Run) -> dict[str, str]:
    """Puts the pretrained parts of a run into the model; says where they are from."""
    assert run.pretrained is not None  # noqa: S101
    with open_checkpoint(run.pretrained) as given:
        done = _matched(model, run, given)
        fill(model.state_dict(), done, given.read)
    return {
        "path": str(run.pretrained),
        "sha256": sha256(run.pretrained),
        "parts": ", ".join(run.parts),
        "tensors": str(len(done.loaded)),
    }


def _matched(model: HybridDetector, run: Run, given: Checkpoint) -> Graft:
    """What of its pretrained file a run begins with; ``UserError`` where shapes differ."""
    names = detector_names(given.tensors, model.config)
    try:
        done = graft(model.state_dict(), given.tensors, run.parts, names)
    except UserError as error:
        raise UserError(f"arm {run.arm}: {run.pretrained}: {error}") from None
    if done.mismatched:
        name, (here, there) = next(iter(done.mismatched.items()))
        raise UserError(
            f"arm {run.arm}: {counted(len(done.mismatched), 'tensor')} of another shape in "
            f'{run.pretrained}: "{name}" is {there} there and {here} here'
        )
    return done


def _refuse_other_data(
    folder: Path, run: Run, digest: str | None, images: str | None, data: RunData
) -> None:
    """Raises ``UserError`` where a run's data is not what is there now; None: as an earlier version
    noted it."""
    if digest not in (None, data.digest):
        raise _other(folder, run, "annotations")
    if images not in (None, data.images):
        raise _other(folder, run, "images, or names for their classes")


def _other(folder: Path, run: Run, what: str) -> UserError:
    return UserError(f"{folder} holds {run.name} with other {what}; choose another folder")


def _refuse_other(folder: Path, run: Run, key: str) -> None:
    if key != run.key:
        raise UserError(
            f"{folder} holds {run.name} with other settings (key {key[:8]}, now {run.key[:8]}); "
            "choose another folder"
        )
