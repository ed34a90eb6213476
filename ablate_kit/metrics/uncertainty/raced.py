"""Changes of variants that were looked at again and again, each on the images that it has seen.

Interval, star and verdict hold whenever a variant stopped (``sequential``): the interval is that of
its last look, as wide as that look's level asks; p is scaled so that 0.05 is that level.
"""

from dataclasses import replace

import numpy as np
from scipy.special import stdtr, stdtrit

from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples
from ablate_kit.metrics.uncertainty.chance import (
    FEWEST,
    LEVEL,
    AgainstChance,
    held_against_chance,
)
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING, Outcome, Verdict


def outcome_of(test: AgainstChance | None, level: float, margin: float, *, last: bool) -> Outcome:
    """What an interval of ``level`` says against a margin.

    Where no image changes at all there is no error to go by. As many as the margin, of a hundred,
    would have shown among enough images; on the last look that is left to whoever reads it.
    """
    if test is None:
        return "undecided"
    images = test.freedom + 1
    if not test.error and (images < FEWEST if last else (1 - margin) ** images > level):
        return "undecided"
    half = half_width(test, level)
    low, high = test.change - half, test.change + half
    if high < -margin:
        return "costs"
    if low > margin:
        return "gains"
    return "free" if -margin < low and high < margin else "undecided"


def half_width(test: AgainstChance, level: float) -> float:
    return float(stdtrit(test.freedom, 1 - level / 2)) * test.error


def decided(before: Sampled, after: Sampled, level: float, margin: float, *, last: bool) -> Outcome:
    """Of AP."""
    return outcome_of(held_against_chance(after - before), level, margin, last=last)


def raced_changes(
    before: Samples,
    after: Samples,
    level: float,
    margin: float,
    *,
    last: bool,
    tested: bool = True,
) -> dict[str, Change]:
    """A variant's change of every metric, on the images that it and the baseline have seen."""
    told = before.overall["AP"].value >= NEXT_TO_NOTHING
    found = {}
    for metric, value in after.overall.items():
        change = _change(value, before.overall[metric], level, tested)
        if metric == "AP" and tested and told:
            change = replace(
                change, verdict=_verdict(value, before.overall[metric], level, margin, last)
            )
        found[metric] = change
    return found


def class_changes(before: Samples, after: Samples, level: float) -> list[Change]:
    """The change of each class's AP, each at the level of the look."""
    pairs = zip(after.ap_per_class, before.ap_per_class, strict=True)
    return [
        _change(one, other, level / max(len(after.ap_per_class), 1), True) for one, other in pairs
    ]


def _verdict(value: Sampled, before: Sampled, level: float, margin: float, last: bool) -> Verdict:
    test = held_against_chance(value - before)
    if test is None:
        return Verdict("undecided", margin)
    away = abs(abs(test.change) - margin)
    p = 2 * float(stdtr(test.freedom, -away / test.error)) if test.error else float(not away)
    return Verdict(outcome_of(test, level, margin, last=last), margin, _scaled(p, level))


def _change(value: Sampled, before: Sampled, level: float, tested: bool) -> Change:
    shown = float(value.value) if np.isfinite(value.value) else None
    difference = value - before
    test = held_against_chance(difference)
    if test is None:
        change = float(difference.value) if np.isfinite(difference.value) else None
        return Change(shown, change, *[None] * 6)
    half = half_width(test, level)
    return Change(
        value=shown,
        change=float(test.change),
        low=float(test.change) - half,
        high=float(test.change) + half,
        error=test.error,
        p=test.p,
        p_adjusted=_scaled(test.p, level) if tested else None,
        detectable=None,
    )


def _scaled(p: float, level: float) -> float:
    """A look's p, in the units of one test of 5 %."""
    return min(1.0, p * (1 - LEVEL) / level)
