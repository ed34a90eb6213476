"""When a variant's numbers are computed, and with which threshold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import islice

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.metrics.parallel import in_threads
from ablate_kit.models.labels.own_objects import own_objects
from ablate_kit.sweeps.scheduling.scheduler import Batches
from ablate_kit.sweeps.scheduling.store import Store
from ablate_kit.sweeps.variants.variant import Variant


@dataclass
class Scores:
    """The numbers of variants, each computed once, when all its batches are done.

    Attributes:
        truth: what detections are compared with.
        fixed_threshold: score of the ``*_fixed`` numbers.
        threshold: the calibrated score thresholds; by default that of the first variant scored,
            which is the unmodified model.
        check: called before anything counts as finished; raises where the files that were read are
            no longer those that the run is about.
        labelled: False: what the first variant finds stands for the objects of the images, of which
            ``truth`` has none then.
        watch: told how many of how many variants have their numbers.
    """

    store: Store
    truth: GroundTruth
    batches: Batches
    _: KW_ONLY
    fixed_threshold: float
    threshold: float | Calibration | None = None
    check: Callable[[], None] = lambda: None
    labelled: bool = True
    watch: Callable[[int, int], None] = lambda _, __: None

    def of(self, variants: Sequence[Variant]) -> Mapping[str, Evaluation]:
        """By digest; finishes those in the store that are not."""
        pending = {one.digest: one for one in variants if self.store.evaluation(one) is None}
        if pending:
            self.check()
            self.watch(0, len(pending))
        lacking = list(pending.values())
        rows = zip(lacking, self.store.collect(len(self.batches), lacking), strict=True)
        finished = 0
        for part in (islice(rows, 1), rows):  # others wait for the first, whose threshold they take
            if self.threshold is None and (numbers := self.store.evaluation(variants[0])):
                self.threshold = numbers.thresholds.calibration
            for one, numbers, found in in_threads(self._evaluated, part):
                self.store.finish(one, numbers, found)
                finished += 1
                self.watch(finished, len(pending))
        self.store.tidy()
        known = {one.digest: self.store.evaluation(one) for one in variants}
        return {digest: numbers for digest, numbers in known.items() if numbers}

    def _evaluated(self, row: tuple[Variant, Detections]) -> tuple[Variant, Evaluation, Detections]:
        variant, found = row
        if not self.labelled:
            own = own_objects(self.truth, found, self.fixed_threshold)
            self.truth, self.labelled = self.store.begin(own), True
        numbers = evaluate(
            self.truth, found, score_threshold=self.threshold, fixed_threshold=self.fixed_threshold
        )
        return variant, numbers, found
