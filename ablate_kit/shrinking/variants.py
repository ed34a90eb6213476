"""What is to be taken out: ablations from files, receipts and runs."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.receipt import read_receipt
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.verdict import not_missed, sentence
from ablate_kit.sweeps.checked_json import checked
from ablate_kit.sweeps.compared_run import compared_run
from ablate_kit.sweeps.fingerprint import checkpoint_digest
from ablate_kit.sweeps.images_of_run import images_of
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from detector.data.dataset import Dataset, rest, subset
from detector.disk.bounded import SETTINGS, read_bounded

_EVALUATION = TypeAdapter(EvaluationSettings)


@dataclass(frozen=True)
class FreeVariants:
    """The ablations of a run that are free, those first that change AP most for the better.

    Attributes:
        tested: how many the run has.
        evaluation: how they were evaluated.
        gaining: how many are more than free: AP rises by more than the margin without the part.
        seen: numbers of the one that has seen the fewest images.
    """

    ablations: tuple[Ablation, ...]
    tested: int
    evaluation: EvaluationSettings
    gaining: int = 0
    seen: Evaluation | None = None


def read_ablation(path: Path) -> Ablation:
    """An ablation as JSON, a receipt, or a checkpoint that carries one."""
    text = _text(path)
    values = None
    if text is not None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(
                f"{path} is not valid JSON; expected an ablation or a receipt"
            ) from None
    if isinstance(values, dict) and "edits" in values:
        try:
            return Ablation.from_dict(values)
        except UserError as error:
            raise UserError(f"{path} is {error}") from None
    receipt = read_receipt(path)
    if receipt.ablation is None:
        raise UserError(f"{path} is the receipt of ablate {receipt.operation}, not of an ablation")
    return receipt.ablation


def read_ablations(path: Path) -> list[Ablation]:
    """``read_ablation`` of a file or a variant's folder, or of all in a folder of variants."""
    if not path.is_dir() or (path / "config.json").exists():
        return [read_ablation(path)]
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    if not inside:
        raise UserError(f"{path} is an empty folder; expected variants")
    return [read_ablation(one) for one in inside]


def _text(path: Path) -> str | None:
    """Of a text; None of a folder and of what is not UTF-8."""
    if path.is_dir():
        return None
    try:
        content = read_bounded(path, SETTINGS)
    except UserError:
        return None  # larger than any ablation: a checkpoint, perhaps
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = content.decode()
    except ValueError:
        return None
    return None if "\0" in text else text


def free_variants(
    run: Path,
    checkpoint: Checkpoint,
    margin: float | None = None,
    compared: Comparison | None = None,
) -> FreeVariants:
    """The ablations of a finished sweep or study of ``checkpoint`` that it found to be free, or
    better left out, by another ``margin`` than the run's, or by its changes where they are
    ``compared`` already.

    Raises ``UserError`` where the run is not finished, is of another checkpoint, or none is.
    """
    ledger = Ledger.existing(run)
    of = ledger.inputs.get("checkpoint"), ledger.inputs.get("weights")
    if of != (checkpoint_digest(checkpoint), checkpoint.place):
        raise UserError(f"{run} is a run of another checkpoint than {checkpoint}")
    if not ledger.finished:
        raise UserError(f"{run} is not finished; run it again, and it resumes")
    results = ledger.results()
    evaluation = _evaluation(ledger, margin)
    compared = compared or compared_run(ledger, results, evaluation.statistics)
    known = ledger.ablations()
    tested = [
        (one, change["AP"])
        for one, change in zip(results[1:], compared.changes, strict=True)
        if not one.is_control
    ]
    ranked = sorted(tested, key=lambda pair: -(pair[1].change or 0.0))
    free = {one.key: ap.verdict for one, ap in ranked if not_missed(ap.verdict)}
    found = [known[key] for key in free if key in known]
    gaining = sum(
        verdict is not None and verdict.outcome == "gains"
        for key, verdict in free.items()
        if key in known
    )
    if not found:
        told = sentence([ap.verdict for _, ap in tested if ap.verdict])
        raise UserError(
            f"{run} shows nothing to be free within {evaluation.margin:g} AP that could be taken "
            f"out{f' ({told})' if told else ''}; --drop takes out what you choose"
        )
    seen = [one.evaluation for one, ap in tested if not_missed(ap.verdict)]
    fewest = min(seen, key=lambda one: one.counts["images"])
    return FreeVariants(tuple(found), len(tested), evaluation, gaining, fewest)


def _evaluation(ledger: Ledger, margin: float | None) -> EvaluationSettings:
    """As in a run, but for the margin where another is given."""
    noted = asdict(ledger.manifest().statistics) | {
        "max_detections": ledger.truth().max_detections,
        "score_threshold": ledger.inputs.get("score_threshold", 0.5),
    }
    noted |= {} if margin is None else {"margin": margin}
    return checked(_EVALUATION, noted, f"{ledger.folder}: how it was evaluated")


def run_images(run: Path) -> tuple[Dataset, GroundTruth]:
    """The images that a run was made on, and what it held detections against: its clusters are
    those of then, whatever a file of clusters says now.

    Raises ``UserError`` where images are gone or others.
    """
    ledger = Ledger.existing(run)
    return images_of(ledger), ledger.truth()


def unseen_images(seen: Dataset, truth: GroundTruth) -> Dataset | None:
    """As many images of the data of a run as it has ``seen``, drawn from those that it has not.

    Those that are not here, or cannot be read, are passed over, for nobody has asked for them, and
    so are copies of the seen ones.

    None where there are fewer than half as many, and where images belong together, as those of one
    video: then others are of clusters that it has seen.
    """
    others = rest(seen)
    if truth.clusters is not None or 2 * len(others) < len(seen):
        return None
    known = {_digest(seen, index) for index in range(len(seen))}
    found: list[int] = []
    for index in np.random.default_rng(0).permutation(len(others)).tolist():
        if len(found) == len(seen):
            break
        try:
            others.image(index)
            digest = _digest(others, index)
        except UserError:
            continue
        if digest not in known:
            found.append(index)
    return subset(others, sorted(found)) if 2 * len(found) >= len(seen) else None


def _digest(dataset: Dataset, index: int) -> bytes:
    return hashlib.sha256(dataset.stored(index)).digest()
