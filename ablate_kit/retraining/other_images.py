"""Whether arms differ on other images like these, too: over seeds and images.

Student's test over seeds is of the images that all runs are evaluated on. An arm that is better on
these alone differs there: of four arms that do not differ on others 10 to 29 % of studies named
one, where an arm's own part of the images is as large as that of a seed
(``benchmarks/simulated_replicates.py``). Here both are chance, as for several draws of an ablation
(``metrics.uncertainty.repeats``): a draw is a seed, its change that of AP between the two runs of
it.
"""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.stored import load_npz
from ablate_kit.metrics.uncertainty.bootstrap import RESAMPLES, Bootstrap, Sampled
from ablate_kit.metrics.uncertainty.matched import Matched
from ablate_kit.metrics.uncertainty.repeats import Combined, combined
from ablate_kit.metrics.uncertainty.significance import within
from ablate_kit.retraining.runs import DETECTIONS, RunResult
from ablate_kit.retraining.summary import FEWEST, by_arm


def over_images(
    folder: Path, outcomes: Sequence[RunResult], truth: GroundTruth
) -> dict[str, Combined]:
    """The change of AP of each arm against the baseline, of those with as many seeds as a test
    takes whose runs keep their detections."""
    (name, baseline), *others = by_arm(outcomes).items()
    bootstrap = Bootstrap(truth, RESAMPLES, sets=len(outcomes))
    known: dict[int, Sampled] = {}  # of the baseline, by seed

    def ap(arm: str, seed: int) -> Sampled:
        found = load_npz(_detections(folder, arm, seed), truth)
        return bootstrap.ap(Matched.of(truth, found))

    told = {}
    for arm, own in others:
        seeds = [
            seed
            for seed in own
            if seed in baseline
            and all(_detections(folder, one, seed).is_file() for one in (name, arm))
        ]
        if len(seeds) < FEWEST:
            continue
        for seed in seeds:
            if seed not in known:
                known[seed] = ap(name, seed)
        told[arm] = within(combined([(known[seed], ap(arm, seed)) for seed in seeds]), "AP")
    return told


def _detections(folder: Path, arm: str, seed: int) -> Path:
    return folder / "runs" / f"{arm}-seed{seed}" / DETECTIONS
