"""What a change says of a part: it costs, it is free, it gains, or these images do not tell.

The *margin* is the change below which a part counts as free. A verdict is one test, of the margin's
end that is nearest to the change: at +margin and -margin begin costs, gains and what is free, and
the change must lie on its side by more than chance. Of one variant alone that is the 95 % interval:

=========  ================================================
costs      the interval lies below -margin
free       it lies within ±margin: an equivalence test
gains      it lies above +margin: better without the part
undecided  it holds +margin or -margin
=========  ================================================

Of fewer than 20 images that show an object nothing is free (by a wide margin of fewer): too many of
them often show no change of what changes others.

Of several, p-values are adjusted as those of the stars are, so that the chance of any wrong verdict
stays below 5 %. No verdict is on an interval that does not bear it, and what costs or gains has a
star, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.chance import LEVEL, PairedTest
from ablate_kit.metrics.uncertainty.multiplicity import Adjust, adjusted_p, first_needs
from ablate_kit.plural import roughly

MARGIN = 0.01  # of AP
NEXT_TO_NOTHING = 0.01  # AP of a baseline below which no change means anything, nor a verdict
POWER = 0.8
# Images that show an object. On 10, 9 % of real cuts that cost more than the margin would have been
# free, most of them without any change; on 20, 1 % (``benchmarks/free_on_few_images.py``).
FEWEST_FREE = 20
_MOST = 100  # so many times the images is more than anybody has

Outcome = Literal["costs", "free", "gains", "undecided"]
OUTCOMES = get_args(Outcome)


@dataclass(frozen=True)
class Verdict:
    """What one change says."""

    outcome: Outcome  # costs, free, gains or undecided
    margin: float  # that it was asked for
    # Adjusted, of the change lying beyond the end of the margin that is nearest to it; None where
    # the change has no interval.
    p: float | None = None
    # Of what is undecided, about how many more images (or clusters of images, where those are
    # resampled) would decide it four times out of five, if the change is what it seems to be. None
    # where that is more than a hundred times as many as there are: the change lies at the margin;
    # or where it has no interval.
    more: int | None = None


@dataclass(frozen=True)
class Side:
    """A change against the end of the margin that is nearest to it; and the margin where it lies
    within."""

    test: PairedTest
    within: float | None


def not_missed(verdict: Verdict | None) -> bool:
    """Whether what was cut is free, or the detector better without it."""
    return verdict is not None and verdict.outcome in ("free", "gains")


def verdicts(
    tests: Sequence[PairedTest | None],
    stars: Sequence[float | None],
    images: int,
    margin: float = MARGIN,
    adjust: Adjust = "family",
) -> list[Verdict]:
    """The verdict on each of several changes of a metric of which more is better.

    Args:
        tests: None where a change has no interval.
        stars: adjusted p of each change, of no change.
        images: how many there are, or clusters of them.
    """
    known = [one for one in tests if one is not None]
    sides = [against_margin(one, margin) for one in known]
    found = iter(zip(known, sides, adjusted_p(sides, adjust), strict=True))
    drawn: list[tuple[Outcome, float | None, Side | None]] = []
    for test, star in zip(tests, stars, strict=True):
        if test is None:
            drawn.append(("undecided", None, None))
            continue
        _, side, p = next(found)
        beyond = abs(test.change) > margin
        if beyond and star is not None:
            p = max(p, star)
        side_of: Outcome = "free" if not beyond else "costs" if test.change < 0 else "gains"
        decided = p < 1 - LEVEL and (beyond or images_that_tell(test) >= free_takes(margin))
        drawn.append(
            (side_of if decided else "undecided", p, Side(side, None if beyond else margin))
        )
    left = [side.test for outcome, _, side in drawn if outcome == "undecided" and side is not None]
    needed = first_needs(left, adjust)

    def more(outcome: Outcome, side: Side | None) -> int | None:
        return more_images(side, needed, images) if outcome == "undecided" else None

    return [Verdict(outcome, margin, p, more(outcome, side)) for outcome, p, side in drawn]


def untold(ap: float | None, margin: float) -> str:
    """Why a baseline of this AP bears no verdict; empty where it does.

    No cut can cost more than all that there is: of a baseline below the margin all would be free.
    """
    if ap is None or not ap >= NEXT_TO_NOTHING:  # nor is NaN
        return f"finds next to nothing (AP {'undefined' if ap is None else f'{ap:.4f}'})"
    if ap <= margin:
        return f"has an AP of {ap:.4f}, which is not above the margin of {margin:g}"
    return ""


def unseen(images: float) -> float:
    """The share of all images that so many may hold none of, with a probability of 5 %: what only
    those tell is in no interval ("rule of three": about 3 / images)."""
    return float(1 - (1 - LEVEL) ** (1 / images))


def images_that_tell(test: PairedTest) -> float:
    """Of a change of AP: how many show an object."""
    return test.freedom + 1


def free_takes(margin: float) -> int:
    """How many images have to tell of a change for it to be free: ``FEWEST_FREE``, or fewer where
    these show what matters on a share of all images as large as the margin (``unseen``)."""
    return next((one for one in range(1, FEWEST_FREE) if unseen(one) <= margin), FEWEST_FREE)


def against_margin(test: PairedTest, margin: float) -> PairedTest:
    """How far a change lies from the end of the margin from which chance separates it least: the
    nearest one of what lies beyond, either of what lies within."""
    ends = [replace(test, change=test.change - end) for end in (margin, -margin)]
    if abs(test.change) > margin:
        return min(ends, key=lambda end: abs(end.change))
    return max(ends, key=lambda end: (end.p, -abs(end.change)))


def sentence(
    found: Sequence[Verdict], noun: str = "variants", metric: str = "AP", unit: str = "images"
) -> str:
    """The answer in one sentence: "3 of 24 heads cost more than 0.01 AP; 18 are free; 3 are
    undecided: about 400 more images would decide them"; empty of no verdict at all."""
    if not found:
        return ""
    counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in OUTCOMES}
    margin = f"{found[0].margin:g} {metric}"
    costs, free, gains = counts["costs"], counts["free"], counts["gains"]
    cost = "costs" if costs == 1 else "cost"
    parts = [f"{costs} of {len(found)} {noun} {cost} more than {margin}"]
    if gains:
        parts.append(f"{gains} {'gains' if gains == 1 else 'gain'} more than {margin}")
    parts.append(f"{free} {_are(free)} free")
    if counts["undecided"]:
        parts.append(_undecided([one for one in found if one.outcome == "undecided"], unit))
    return "; ".join(parts)


def _undecided(left: Sequence[Verdict], unit: str) -> str:
    told = f"{len(left)} {_are(len(left))} undecided"
    needed = [one.more for one in left if one.more is not None]
    if needed:
        which = str(len(needed)) if len(needed) < len(left) else "it" if len(left) == 1 else "them"
        told += f": about {roughly(max(needed)):,} more {unit} would decide {which}"
    close = sum(one.more is None and one.p is not None for one in left)
    if close:
        lie = f"{close} {'lies' if close == 1 else 'lie'}" if close < len(left) else "too"
        told += f", {lie} close to the margin" + (" for more of them to help" * (lie == "too"))
    return told


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def more_images(side: Side | None, needed: float, images: int) -> int | None:
    """How many more would decide a change, by how far it lies from the margin's end (``side``), at
    the p that is needed: errors shrink with the root of the number of images."""
    if side is None or not side.test.change:
        return None
    test, least = side.test, 1
    if side.within is not None:
        more = free_takes(side.within) / images_that_tell(test) - 1
        least = max(1, int(np.ceil(more * images)))
    if not test.error:  # all images alike, of which a sign test asks for some
        return max(least, int(-np.log2(needed)) + 1 - int(test.freedom))

    ends = [test.change]
    if side.within is not None:  # and from the other end, which less skewness may leave the nearer
        ends.append(test.change - np.copysign(2 * side.within, test.change))

    def lacks(times: float) -> float:
        """How many standard errors on so many times the images."""
        then = test.on_more(times)
        below, above = then.reach(needed)
        return max(
            (below if change > 0 else above) + float(ndtri(POWER)) - abs(change) / then.error
            for change in ends
        )

    if lacks(_MOST) > 0:
        return None
    times = float(brentq(lacks, 1, _MOST)) if lacks(1) > 0 else 1.0
    return max(least, int(np.ceil((times - 1) * images)))
