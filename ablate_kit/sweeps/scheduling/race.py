"""A sweep in which variants stop when they are decided, instead of seeing every image.

Images come in a seeded random order. At each look of a fixed schedule every variant that is left is
compared with the unmodified model on the images so far; what costs, gains or is free by a margin is
finished there. The error is spent over looks and variants (``metrics.uncertainty.sequential``).
What all images would hardly decide is given up.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.metrics.first_images import found_in, truth_of_first
from ablate_kit.metrics.parallel import in_threads
from ablate_kit.metrics.result import is_control
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.matched import Matched
from ablate_kit.metrics.uncertainty.raced import StepDown
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import Outcome, untold
from ablate_kit.sweeps.scheduling.scheduler import Batches, Lacking
from ablate_kit.sweeps.scheduling.store import Store
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant


@dataclass(frozen=True)
class Look:
    """What a look has come to.

    Attributes:
        images: seen so far.
        stopped: names of the variants that stopped here, with what they come to.
        left: how many go on.
    """

    images: int
    stopped: Sequence[tuple[str, str]]
    left: int


Watch = Callable[[Look], None]


def schedule(
    batches: Batches, first: int, growth: float, variants: int, futility: float = 0.0
) -> Looks:
    """Looks after ``first`` images and whenever these have grown by ``growth``, in whole batches.

    A look just before the last one, of all images, is left out.
    """
    found: list[int] = []
    target = float(first)
    while target * np.sqrt(growth) < batches.images:
        images = min(-(-int(np.ceil(target)) // batches.size) * batches.size, batches.images)
        if images < batches.images and images not in found:
            found.append(images)
        target *= growth
    return Looks((*found, batches.images), variants, futility)


class Race:
    """The batches up to a look for those that are left, then the look.

    Which variants stop at a look depends on the detections and nothing else, so a race that was
    killed comes to the same looks again.

    Args:
        variants: without the unmodified model; ``store`` keeps them.
        check: called before anything counts as finished, as that of ``Scores``.
        watch: told what each look has come to.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        truth: GroundTruth,
        batches: Batches,
        store: Store,
        looks: Looks,
        statistics: Statistics,
        *,
        fixed_threshold: float,
        check: Callable[[], None] = lambda: None,
        watch: Watch,
    ) -> None:
        distinct = {one.digest: one for one in reversed(variants) if one.digest}
        self._variants = list(reversed(distinct.values()))
        self._left = [one for one in self._variants if not store.evaluation(one)]
        self._finished = [one for one in self._variants if store.evaluation(one)]  # earlier
        tested = {one.digest for one in variants if not is_control(one.factors)}
        self._step_down = StepDown(looks, tested)
        self._truth = truth
        self._batches = batches
        self._store = store
        self._statistics = statistics
        self._fixed_threshold = fixed_threshold
        self._check = check
        self._watch = watch
        self._matched: dict[str, list[Matched]] = {}  # by digest, what each look has added
        self._looks = looks.images
        self._seen = 0

    def stretches(self) -> Iterator[Lacking]:
        """What those that are left lack up to each look, which is taken when that is done."""
        for images in self._looks:
            if not self._left:
                break
            yield self._store.lacking(self._upto(images), [UNMODIFIED, *self._left])
            self._look(images)
            self._seen = images
        self._end()

    def _upto(self, images: int) -> int:
        """The number of batches."""
        return -(-images // self._batches.size)

    def _look(self, images: int) -> None:
        truth = truth_of_first(self._truth, images)
        for digest, found in self._joined(images):
            self._matched[digest] = [found]
        earlier = [one for one in self._finished if self._seen_by(one) == images]
        for one, result in zip(earlier, self._store.results(earlier), strict=True):
            self._matched[one.digest] = [Matched.of(truth, result.detections)]
        every = [*earlier, *self._left]
        told = self._statistics
        bootstrap = Bootstrap(truth, told.resamples, told.seed, sets=1 + len(every))
        before = bootstrap.ap(self._matched[UNMODIFIED.digest][0])

        def come_to(one: Variant) -> Outcome | None:
            after = bootstrap.ap(self._matched[one.digest][0])
            return self._decided(before, after, images)

        judged = list(zip(every, in_threads(come_to, every), strict=True))
        stopped = {one.digest: what for one, what in judged if what}
        self._finish([one for one in self._left if one.digest in stopped], truth, images)
        self._left = [one for one in self._left if one.digest not in stopped]
        self._step_down.settle(stopped)
        outcomes = [(one.name, what) for one, what in judged if what]
        left = len(self._left) + sum(self._seen_by(one) > images for one in self._finished)
        self._watch(Look(images, outcomes, left))

    def _decided(self, before: Sampled, after: Sampled, images: int) -> Outcome | None:
        """What a variant has come to; None where it goes on."""
        if untold(before.value, self._statistics.margin):
            return "undecided" if self._step_down.is_last(images) else None
        test = paired_test(after - before)
        return self._step_down.come_to(test, images, self._statistics.margin)

    def _seen_by(self, variant: Variant) -> int:
        """How many images one that is finished has seen."""
        numbers = self._store.evaluation(variant)
        return int(numbers.counts["images"]) if numbers else 0

    def _joined(self, images: int) -> list[tuple[str, Matched]]:
        """What each of those that are left detects, matched; only new images are."""
        chosen = [UNMODIFIED, *self._left]
        found = []
        rows = self._store.collect(self._upto(images), chosen)
        for one, detections in zip(chosen, rows, strict=True):
            new = Matched.of(self._truth, found_in(detections, self._seen, images))
            found.append((one.digest, Matched.joined([*self._matched.get(one.digest, ()), new])))
        return found

    def _finish(self, variants: Sequence[Variant], truth: GroundTruth, images: int) -> None:
        if not variants:
            return
        self._check()
        chosen = [UNMODIFIED, *variants]
        rows = self._store.collect(self._upto(images), chosen)
        threshold = self._numbers(truth, next(rows)).thresholds.calibration
        for one, found in zip(variants, rows, strict=True):
            self._matched.pop(one.digest, None)
            self._store.finish(one, self._numbers(truth, found, threshold), found)

    def _end(self) -> None:
        """The unmodified model has run for as long as any variant."""
        if not self._store.evaluation(UNMODIFIED):
            self._check()
            images = max(map(self._seen_by, self._variants), default=self._seen)
            (found,) = self._store.collect(self._upto(images), [UNMODIFIED])
            truth = truth_of_first(self._truth, images)
            self._store.finish(UNMODIFIED, self._numbers(truth, found), found)
        self._store.tidy()

    def _numbers(
        self, truth: GroundTruth, found: Detections, threshold: Calibration | None = None
    ) -> Evaluation:
        fixed = self._fixed_threshold
        return evaluate(truth, found, score_threshold=threshold, fixed_threshold=fixed)
