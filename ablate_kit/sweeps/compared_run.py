"""The results of a run, held against the unmodified model's."""

from collections.abc import Sequence

from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.sweeps.ledger import Ledger


def compared_run(ledger: Ledger, results: Sequence[Result], statistics: Statistics) -> Comparison:
    """Those of a race each on the images that it saw."""
    race = ledger.manifest().race
    if race is None:
        return compare(ledger.truth(), results, statistics)
    return compare_raced(ledger.truth(), results, race.looks, statistics)
