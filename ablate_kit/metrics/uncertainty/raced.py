"""Changes of variants that were looked at again and again, each on the images that it has seen.

Stars and verdicts hold whenever a variant stopped (``sequential``). The interval is that of its
last look, as wide as the verdict asks for; p is scaled so that 0.05 is the level of the look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples
from ablate_kit.metrics.uncertainty.chance import LEVEL, PairedTest, alike, paired_test
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import Change, change_of, within
from ablate_kit.metrics.uncertainty.verdict import (
    Outcome,
    Side,
    Verdict,
    against_margin,
    free_takes,
    images_that_tell,
    more_images,
    unseen,
    untold,
)


@dataclass(frozen=True)
class Levels:
    """Of one look: of ``stars``, shared by all variants, and of ``verdicts``, shared by those that
    no look before has decided. So what is free gives no other variant a star."""

    stars: float
    verdicts: float


class StepDown:
    """The looks of one race in their order, and how many variants none of them has decided.

    The race itself goes through them, and so does its report: levels are those of the same looks.

    Args:
        tested: keys of the variants that share the error; controls do not.
    """

    def __init__(self, looks: Looks, tested: Iterable[str]) -> None:
        self._looks = looks
        self._tested = frozenset(tested)
        self._left = looks.variants

    def levels(self, images: int) -> Levels:
        """Of the look after so many images, once those before it are settled."""
        return Levels(self._looks.level(images), self._looks.level(images, self._left))

    def is_last(self, images: int) -> bool:
        return images == self._looks.images[-1]

    def come_to(self, test: PairedTest | None, images: int, margin: float) -> Outcome | None:
        """What a variant has come to at a look; None where it goes on."""
        last = self.is_last(images)
        outcome = outcome_of(test, self.levels(images), margin, last=last)
        if last or outcome != "undecided":
            return outcome
        most = self._looks.images[-1]
        # At best all others are decided by then.
        chance = chance_of_verdict(test, images, most, self._looks.level(most, 1), margin)
        return outcome if chance < self._looks.futility else None

    def settle(self, stopped: Mapping[str, Outcome | None]) -> None:
        """Takes the outcomes of a look, by key: who is decided leaves its share to the others."""
        self._left -= sum(
            outcome not in (None, "undecided")
            for key, outcome in stopped.items()
            if key in self._tested
        )


def outcome_of(test: PairedTest | None, levels: Levels, margin: float, *, last: bool) -> Outcome:
    """What an interval says against a margin; what costs or gains has a star, too.

    While more images are to come, nothing is free on fewer than show what matters on a share of all
    as large as the margin. Where no image changes at all a sign test is asked, as without a race.
    """
    if test is None or (not test.error and alike(test.freedom) >= levels.verdicts):
        return "undecided"
    low, high = test.interval(levels.verdicts)
    starred = test.p < levels.stars
    if high < -margin and starred:
        return "costs"
    if low > margin and starred:
        return "gains"
    tell = images_that_tell(test)
    shown = tell >= free_takes(margin) if last else unseen(tell) <= margin
    return "free" if shown and -margin < low and high < margin else "undecided"


def chance_of_verdict(
    test: PairedTest | None, seen: int, images: int, level: float, margin: float
) -> float:
    """How likely the last look decides, by the change so far.

    Predictive power (Spiegelhalter, Freedman and Blackburn 1986) without a prior, normal: the
    change of all images lies around that of those seen, with the variance that is left to shrink.

    Args:
        seen, images: so far, and on the last look.
        level: of the last look.
    """
    if test is None or not test.error or seen >= images:
        return 1.0
    last = test.error * np.sqrt(seen / images)
    spread = np.sqrt(test.error**2 - last**2)
    half = -float(ndtri(level / 2)) * last
    far, near = margin + half, margin - half
    found = ndtr((-far - test.change) / spread) + ndtr((test.change - far) / spread)
    if near > 0:
        found += ndtr((near - test.change) / spread) - ndtr((-near - test.change) / spread)
    return float(found)


def raced_changes(
    before: Samples, after: Samples, levels: Levels, margin: float, *, last: bool, tested: bool
) -> dict[str, Change]:
    """A variant's change of every metric, on the images that it and the baseline have seen."""
    told = not untold(before.overall["AP"].value, margin)
    found = {}
    for metric, value in after.overall.items():
        change = _change(value, before.overall[metric], levels, tested)
        if metric == "AP" and tested and told:
            change = replace(
                change, verdict=_verdict(value, before.overall[metric], levels, margin, last)
            )
        found[metric] = within(change, metric)
    return found


def class_changes(before: Samples, after: Samples, levels: Levels) -> list[Change]:
    """The change of each class's AP, each at the level of the look; the classes share it."""
    count = max(len(after.ap_per_class), 1)
    shared = Levels(levels.stars / count, levels.verdicts / count)
    pairs = zip(after.ap_per_class, before.ap_per_class, strict=True)
    return [within(_change(one, other, shared, True), "AP") for one, other in pairs]


def _verdict(value: Sampled, before: Sampled, levels: Levels, margin: float, last: bool) -> Verdict:
    test = paired_test(value - before)
    if test is None:
        return Verdict("undecided", margin)
    side = against_margin(test, margin)
    outcome = outcome_of(test, levels, margin, last=last)
    p = _scaled(side.p, levels.verdicts)
    if abs(test.change) > margin:
        p = max(p, _scaled(test.p, levels.stars))
    if outcome != "undecided":
        return Verdict(outcome, margin, p)
    near = Side(side, margin if abs(test.change) <= margin else None)
    return Verdict(outcome, margin, p, more_images(near, levels.verdicts, before.all_images))


def _change(value: Sampled, before: Sampled, levels: Levels, tested: bool) -> Change:
    difference = value - before
    test = paired_test(difference)
    change = change_of(value, difference, test, levels.verdicts)
    if test is None or not tested:
        return change
    return replace(change, p_adjusted=_scaled(test.p, levels.stars))


def _scaled(p: float, level: float) -> float:
    """A look's p, in the units of one test of 5 %."""
    return min(1.0, p * (1 - LEVEL) / level)
