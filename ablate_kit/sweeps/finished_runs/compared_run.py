"""The results of a run, compared with the unmodified model's."""

import math
from collections.abc import Sequence
from pathlib import Path

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.sweeps.run_folder.ledger import Ledger


def compared_run(
    ledger: Ledger, results: Sequence[Result], statistics: Statistics, *, classes: bool = True
) -> Comparison:
    """Those of a race each on the images that it saw; ``classes``: also class by class.

    Raises ``UserError`` where annotations or detections are not those that the numbers are of.
    """
    truth, race = ledger.truth(), ledger.manifest().race
    _check(ledger.folder, truth_of_first(truth, results[0].images), results[0])
    if race is None:
        return compare(truth, results, statistics, classes=classes)
    return compare_raced(truth, results, race.looks, statistics)


def _check(folder: Path, truth: GroundTruth, baseline: Result) -> None:
    before = baseline.evaluation
    now = evaluate(truth, baseline.detections, fixed_threshold=before.thresholds.fixed)
    for metric in METRICS:
        then, found = before.overall[metric.key], now.overall[metric.key]
        if then is None or found is None:
            same = then is found
        else:
            same = math.isclose(then, found, abs_tol=1e-9)
        if not same:
            raise UserError(
                f"{folder}: the unmodified model's {metric.label} is {found} by truth.json and "
                f"its detections, and {then} in ledger.jsonl: one of them was changed"
            )
