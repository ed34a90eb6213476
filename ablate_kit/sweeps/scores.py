"""When a variant's numbers are computed, and with which threshold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.models.own_objects import own_objects
from ablate_kit.sweeps.scheduler import Batches
from ablate_kit.sweeps.store import Store
from ablate_kit.sweeps.variant import Variant


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
    """

    store: Store
    truth: GroundTruth
    batches: Batches
    _: KW_ONLY
    fixed_threshold: float
    threshold: float | Calibration | None = None
    check: Callable[[], None] = lambda: None
    labelled: bool = True

    def of(self, variants: Sequence[Variant]) -> Mapping[str, Evaluation]:
        """By digest; finishes those in the store that are not."""
        pending = {one.digest: one for one in variants if self.store.evaluation(one) is None}
        if pending:
            self.check()
        found: dict[str, Evaluation] = {}
        detections = self.store.collect(len(self.batches), list(pending.values()))
        for one in variants:
            numbers = self.store.evaluation(one)
            if numbers is None:
                numbers = self._finished(one, next(detections))
            if self.threshold is None:
                self.threshold = numbers.thresholds.calibration
            found[one.digest] = numbers
        self.store.tidy()
        return found

    def _finished(self, variant: Variant, found: Detections) -> Evaluation:
        if not self.labelled:
            own = own_objects(self.truth, found, self.fixed_threshold)
            self.truth, self.labelled = self.store.begin(own), True
        numbers = evaluate(
            self.truth, found, score_threshold=self.threshold, fixed_threshold=self.fixed_threshold
        )
        self.store.finish(variant, numbers, found)
        return numbers
