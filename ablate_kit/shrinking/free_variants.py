"""What a run found to be free."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import checkpoint_digest
from ablate_kit.errors import UserError
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.verdict import not_missed, sentence
from ablate_kit.sweeps.finished_runs.compared_run import compared_run
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run_folder.checked_json import checked
from ablate_kit.sweeps.run_folder.ledger import Ledger

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
