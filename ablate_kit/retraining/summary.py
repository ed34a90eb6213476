"""What the runs of a study say: means over seeds, and differences paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablate_kit import text as safe
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import Combined
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING
from ablate_kit.plural import counted
from ablate_kit.reports.answer import images_and_objects
from ablate_kit.reports.table import Table, ends, number
from ablate_kit.retraining.runs import RunResult

LEVEL = 0.95
FEWEST = 3  # seeds that an interval takes


@dataclass(frozen=True)
class Difference:
    """Mean over seeds of (arm - baseline), with half its confidence interval.

    The interval is Student's, of the mean of the paired differences: it covers the chance of the
    seeds (initialization, order, noise), not that of the images. None for fewer than three seeds,
    and where all differences are alike, as of a class that no run finds.
    """

    mean: float
    half: float | None
    seeds: int
    p: float | None = None  # of no difference, Student's paired test; None without an interval

    @staticmethod
    def of(arm: Sequence[float], baseline: Sequence[float]) -> "Difference":
        values = np.asarray(arm, dtype=float) - np.asarray(baseline, dtype=float)
        n = len(values)
        half = p = None
        error = float(values.std(ddof=1)) / math.sqrt(n) if n >= FEWEST else 0.0
        if error > 1e-12:  # of differences that are all alike, nothing says what chance does
            half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
            p = 2 * float(stats.t.sf(abs(values.mean()) / error, n - 1))
        return Difference(float(values.mean()), half, n, p)


def by_arm(outcomes: Sequence[RunResult]) -> dict[str, dict[int, RunResult]]:
    """Outcomes by arm and seed, the baseline first."""
    arms: dict[str, dict[int, RunResult]] = {}
    for outcome in outcomes:
        arms.setdefault(outcome.arm, {})[outcome.seed] = outcome
    return arms


def difference(
    arm: dict[int, RunResult], baseline: dict[int, RunResult], metric: str
) -> Difference | None:
    """Over the seeds that both have a number for."""
    pairs = [
        (_number(arm[seed], metric), _number(baseline[seed], metric))
        for seed in arm
        if seed in baseline
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return Difference.of(*zip(*known, strict=True)) if known else None


def conclusion(
    outcomes: Sequence[RunResult], over_images: Mapping[str, Combined] | None = None
) -> str:
    """Which arms differ from the baseline in AP by more than the chance of seeds, in a sentence;
    Holm's adjustment for the number of arms; and which do on other images (``other_images``)."""
    arms = by_arm(outcomes)
    name, baseline = next(iter(arms.items()))
    ap = [value for one in baseline.values() if (value := _number(one, "AP")) is not None]
    mean = float(np.mean(ap)) if ap else 0.0
    if mean < NEXT_TO_NOTHING:
        return f"{name} finds next to nothing (AP {mean:.4f}), so that nothing can be said of arms"
    others = [one for one in arms if one != name]
    found = [difference(arms[one], baseline, "AP") for one in others]
    if not any(one and one.p is not None for one in found):
        return f"no test: that takes arms with {FEWEST} seeds or more"
    adjusted = holm([one.p if one else None for one in found])
    differ = [
        f"{arm} {_change(one)}"
        for arm, one, p in zip(others, found, adjusted, strict=True)
        if one and p is not None and p < 1 - LEVEL
    ]
    how = "paired t test over seeds, p < 0.05, Holm"
    count = counted(len(others), "arm")
    if not differ:
        return (
            f"of none of {count} is it shown that its AP on these images differs from that of "
            f"{name} ({how}){_on_others(over_images or {})}"
        )
    verb = "differs" if len(differ) == 1 else "differ"
    told = f"{len(differ)} of {count} {verb} from {name} in AP on these images ({how})"
    return f"{told}: {'; '.join(differ)}{_on_others(over_images or {})}"


def _on_others(found: Mapping[str, Combined]) -> str:
    """What holds on other images like these, too; nothing where nobody asked."""
    if not found:
        return ""
    adjusted = holm([one.p for one in found.values()])
    differ = [
        f"{arm} {ends(one.low, one.high).strip()}"
        for (arm, one), p in zip(found.items(), adjusted, strict=True)
        if p is not None and p < 1 - LEVEL
    ]
    return f"; on other images like these (over seeds and images): {', '.join(differ) or 'none'}"


def summary_table(
    outcomes: Sequence[RunResult], over_images: Mapping[str, Combined] | None = None
) -> Table:
    """One row per arm."""
    arms = by_arm(outcomes)
    baseline = next(iter(arms.values()))
    rows = []
    for name, arm in arms.items():
        cells = [name, str(len(arm))]
        for metric in METRICS:
            cells.append(_mean(arm, metric.key))
            found = None if arm is baseline else difference(arm, baseline, metric.key)
            cells.append("" if found is None else _change(found))
        rows.append((*cells, f"{np.mean([one.seconds for one in arm.values()]):.0f}"))
    title = (
        f"{safe.line(conclusion(outcomes, over_images))}\n"
        f"{images_and_objects(outcomes[0].evaluation)}; mean ± standard deviation over seeds; Δ "
        f"against {next(iter(arms))}, paired by seed, ± half of the 95 % interval (from {FEWEST} "
        "seeds on); F1 at each run's best threshold; GIoU: a missed object counts -1; seconds: of "
        "a run, on average"
    )
    header = (
        "arm",
        "seeds",
        *(x for one in METRICS for x in (one.label, f"Δ {one.label}")),
        "seconds",
    )
    return Table(title, header, tuple(rows), ("arm",))


def class_table(outcomes: Sequence[RunResult]) -> Table:
    """AP of each class, by arm, and its difference to the baseline's."""
    arms = by_arm(outcomes)
    baseline = next(iter(arms.values()))
    classes = outcomes[0].evaluation.per_class
    rows = []
    for label, values in classes.items():
        if not values["support"]:
            continue
        for name, arm in arms.items():
            pairs = [
                (
                    one.evaluation.per_class[label]["AP"],
                    baseline[seed].evaluation.per_class[label]["AP"],
                )
                for seed, one in arm.items()
                if seed in baseline
            ]
            found = Difference.of([a or 0.0 for a, _ in pairs], [b or 0.0 for _, b in pairs])
            mean = np.mean([a or 0.0 for a, _ in pairs])
            change = "" if arm is baseline else _change(found)
            rows.append((label, f"{values['support']:g}", name, f"{mean:.4f}", change))
    header = ("class", "objects", "arm", "AP", "Δ AP")
    return Table("AP per class, mean over seeds", header, tuple(rows), ("class", "arm"))


def _number(outcome: RunResult, metric: str) -> float | None:
    return outcome.evaluation.overall[metric]


def _mean(arm: dict[int, RunResult], metric: str) -> str:
    values = [value for one in arm.values() if (value := _number(one, metric)) is not None]
    if len(values) < 2:
        return number(values[0] if values else None)
    return f"{number(float(np.mean(values)))} ± {number(float(np.std(values, ddof=1)))}"


def _change(found: Difference) -> str:
    spread = "" if found.half is None else f" ± {number(found.half)}"
    return number(found.mean, "+z.4f") + spread
