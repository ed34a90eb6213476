"""Which changes are more than another sample of images would make: intervals, p-values, stars.

Interval and p-value of a change are one test (``chance``). The star counts how many variants are
asked about: its p-value is adjusted for them (``multiplicity``), and so is the ``verdict`` on AP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

import numpy as np
from scipy.special import stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples
from ablate_kit.metrics.uncertainty.chance import LEVEL, PairedTest, paired_test
from ablate_kit.metrics.uncertainty.multiplicity import (
    Adjust,
    adjusted_p,
    first_needs,
    tells_little,
)
from ablate_kit.metrics.uncertainty.verdict import MARGIN, POWER, Verdict, untold, verdicts

Row = TypeVar("Row")  # a dataclass with the fields low and high

# Between which ends a metric can change; those without labels from what the unmodified model has
# by construction.
_ENDS = {
    "AP": (-1.0, 1.0),
    "AP50": (-1.0, 1.0),
    "f1_calibrated": (-1.0, 1.0),
    "giou_penalized": (-2.0, 2.0),
    "matched_iou": (-1.0, 0.0),
    "class_flips": (0.0, 1.0),
    "lost_boxes": (0.0, 1.0),
    "new_boxes": (0.0, np.inf),
}
FEW_IMAGES = 30  # below, intervals are said to be rough


@dataclass(frozen=True)
class Change:
    """A variant's change of one metric against the baseline; None where it is not defined."""

    value: float | None  # of the variant
    change: float | None  # against the baseline
    # low, high: 95 % interval of the change, which leaves out 0 exactly where p < 0.05 and goes no
    # farther than the metric can; None, too, where all images show the same change.
    low: float | None
    high: float | None
    error: float | None  # standard error of the change
    p: float | None  # two-sided, of no change
    p_adjusted: float | None  # for all variants that are tested, by metric; never below ``p``
    # The size of a change that would be significant after the adjustment four times out of five, if
    # its standard error is this one.
    detectable: float | None
    verdict: Verdict | None = None  # on AP of what is tested, against a margin
    # So few images tell of it that ``family`` adjusts it by Holm's procedure.
    few: bool = field(default=False, kw_only=True)

    @property
    def significant(self) -> bool:
        return self.p_adjusted is not None and self.p_adjusted < 1 - LEVEL

    @property
    def outcome(self) -> str:
        """Of the verdict; empty without one."""
        return self.verdict.outcome if self.verdict else ""

    def to_dict(self) -> dict[str, float | str | None]:
        """Plain values; of the verdict those of ``OF_VERDICT``."""
        told = self.verdict
        numbers = {name: getattr(self, name) for name in NUMBERS}
        values = (told.outcome, told.margin, told.p, told.more) if told else (None,) * 4
        return numbers | dict(zip(OF_VERDICT, values, strict=True))


NUMBERS = tuple(one.name for one in fields(Change) if one.name not in ("verdict", "few"))
OF_VERDICT = ("verdict", "margin", "p_verdict", "more_needed")
COLUMNS = (*NUMBERS, *OF_VERDICT)


Changes = Mapping[str, Change]  # by metric


def moves_apart(change: Changes) -> bool:
    """Whether AP and penalized GIoU both change significantly, one up and one down.

    GIoU does not see false positives: it rises where a detector floods the image.
    """
    ap, giou = change["AP"], change["giou_penalized"]
    if not (ap.significant and giou.significant) or ap.change is None or giou.change is None:
        return False
    return ap.change * giou.change < 0


def changes(
    baseline: Samples,
    variants: Sequence[Samples],
    tested: Sequence[bool] | None = None,
    adjust: Adjust = "family",
    margin: float = MARGIN,
) -> list[dict[str, Change]]:
    """Each variant's change of every metric, with its interval; p-values adjusted by metric.

    ``tested`` says which variants are adjusted for, by default all; others, such as random
    controls, get no adjusted p-value, no verdict, and are never significant. The verdict is on AP,
    and there is none where the baseline finds next to nothing, or no more than the margin.
    """
    asked = [True] * len(variants) if tested is None else tested
    found: list[dict[str, Change]] = [{} for _ in variants]
    for metric in baseline.overall:
        after = [variant.overall[metric] for variant in variants]
        before = baseline.overall[metric]
        judged = margin if metric == "AP" and not untold(before.value, margin) else None
        rows = _changes(after, [one - before for one in after], asked, adjust, judged)
        for one, row in zip(found, rows, strict=True):
            one[metric] = within(row, metric, most=most_of(baseline, before))
    return found


def class_changes(baseline: Samples, variant: Samples, adjust: Adjust = "family") -> list[Change]:
    """The change of each class's AP; p-values adjusted over the classes."""
    after = variant.ap_per_class
    pairs = zip(after, baseline.ap_per_class, strict=True)
    rows = _changes(after, [one - before for one, before in pairs], [True] * len(after), adjust)
    most = [most_of(baseline, before) for before in baseline.ap_per_class]
    return [within(row, "AP", most=one) for row, one in zip(rows, most, strict=True)]


def interactions(
    baseline: Samples,
    joint: Sequence[Samples],
    members: Sequence[Sequence[Samples]],
    adjust: Adjust = "family",
) -> list[dict[str, Change]]:
    """By how much each joint cut changes a metric beyond the sum of its members' own changes.

    Of two parts that is ``change(ij) - change(i) - change(j)``, with its interval over the same
    resamples of images; p-values adjusted over the joint cuts, by metric. ``value`` is the joint
    cut's own.
    """
    found: list[dict[str, Change]] = [{} for _ in joint]
    for metric in baseline.overall:
        before = baseline.overall[metric]
        after = [one.overall[metric] for one in joint]
        beyond = []
        for whole, parts in zip(after, members, strict=True):
            rest = whole - before
            for part in parts:
                rest = rest - (part.overall[metric] - before)
            beyond.append(rest)
        rows = _changes(after, beyond, [True] * len(after), adjust)
        most = most_of(baseline, before)
        for one, row, parts in zip(found, rows, members, strict=True):
            one[metric] = within(row, metric, most=most, beyond=len(parts))
    return found


def _changes(
    after: Sequence[Sampled],
    differences: Sequence[Sampled],
    asked: Sequence[bool],
    adjust: Adjust,
    margin: float | None = None,
) -> list[Change]:
    tests = [paired_test(one) for one in differences]
    known = [one for one, ask in zip(tests, asked, strict=True) if one is not None and ask]
    adjusted = iter(adjusted_p(known, adjust))
    needed = first_needs(known, adjust)
    rows = []
    for one, difference, test, ask in zip(after, differences, tests, asked, strict=True):
        row = change_of(one, difference, test)
        if test is not None and ask:
            star, size = next(adjusted), _detectable(test, needed)
            row = replace(row, p_adjusted=star, detectable=size)
        rows.append(row)
    if margin is None or not any(asked):
        return rows
    place = [i for i, ask in enumerate(asked) if ask]
    stars = [rows[i].p_adjusted for i in place]
    images = differences[place[0]].all_images
    found = verdicts([tests[i] for i in place], stars, images, margin, adjust)
    for i, verdict in zip(place, found, strict=True):
        rows[i] = replace(rows[i], verdict=verdict)
    return rows


def change_of(
    after: Sampled, difference: Sampled, test: PairedTest | None, level: float = 1 - LEVEL
) -> Change:
    """With the interval that leaves out 0 where p is below ``level``; nothing is adjusted yet."""
    value = float(after.value) if np.isfinite(after.value) else None
    if test is None:
        change = float(difference.value) if np.isfinite(difference.value) else None
        return Change(value, change, *[None] * 6)
    low, high = test.ends(level)
    return Change(
        value, float(test.change), low, high, test.error, test.p, None, None, few=tells_little(test)
    )


def within(row: Row, metric: str, *, most: float = np.inf, beyond: int = 0) -> Row:
    """A change with its interval, of any kind, without the ends that no change of the metric can
    have: Student's t of a class on few images, or of few draws, has such.

    Args:
        most: no change is larger.
        beyond: of how many changes the sum is taken off it (``interactions``).
    """
    interval: Any = row
    if interval.low is None or interval.high is None:
        return row
    least, own = _ENDS.get(metric, (-np.inf, np.inf))
    own = min(own, most)
    if beyond:
        # The unmodified model's value is in each change: at one end of the metric, or anywhere.
        anywhere = least < 0 < own
        least, own = (
            (-beyond * own, beyond * own)
            if anywhere
            else (least - beyond * own, own - beyond * least)
        )
    low, high = max(interval.low, least), min(interval.high, own)
    return cast("Row", replace(interval, low=low, high=high))


def most_of(baseline: Samples, before: Sampled) -> float:
    """The largest change: against its own boxes the unmodified model has all that there is."""
    whole = MEASURES[0].key in baseline.overall and before.value > 1 - 1e-9
    return 0.0 if whole else np.inf


def _detectable(test: PairedTest, needed: float) -> float | None:
    if test.error == 0:
        return None
    factor = max(test.reach(needed)) + stdtrit(test.freedom, POWER)
    return float(factor) * test.error
