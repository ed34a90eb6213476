"""When a variant's numbers are computed, and with which threshold."""

from collections.abc import Callable, Mapping, Sequence

from ablate_kit.errors import UserError
from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate
from ablate_kit.models.own_objects import own_objects
from ablate_kit.sweeps.scheduler import Batches
from ablate_kit.sweeps.store import Store
from ablate_kit.sweeps.variant import Variant


class Scores:
    """The numbers of variants, each computed once, when all its batches are done.

    Args:
        fixed_threshold: score of the ``*_fixed`` numbers.
        threshold: the calibrated score thresholds; by default that of the first variant scored,
            which is the unmodified model.
        check: called before anything counts as finished; raises where the files that were read are
            no longer those that the run is about, and what is not finished is forgotten then.
        labelled: False: what the first variant finds stands for the objects of the images, of which
            ``truth`` has none then.
    """

    def __init__(
        self,
        store: Store,
        truth: GroundTruth,
        batches: Batches,
        *,
        fixed_threshold: float,
        threshold: float | Calibration | None = None,
        check: Callable[[], None] = lambda: None,
        labelled: bool = True,
    ) -> None:
        self._store = store
        self._truth = truth
        self._batches = batches
        self._fixed_threshold = fixed_threshold
        self._threshold = threshold
        self._check = check
        self._labelled = labelled

    @property
    def truth(self) -> GroundTruth:
        """What detections are held against."""
        return self._truth

    def of(self, variants: Sequence[Variant]) -> Mapping[str, Evaluation]:
        """By digest; finishes those in the store that are not."""
        pending = {one.digest: one for one in variants if self._store.evaluation(one) is None}
        if pending:
            try:
                self._check()
            except UserError:
                self._store.tidy()
                raise
        found: dict[str, Evaluation] = {}
        detections = self._store.collect(len(self._batches), list(pending.values()))
        for one in variants:
            numbers = self._store.evaluation(one)
            if numbers is None:
                numbers = self._finished(one, next(detections))
            if self._threshold is None:
                self._threshold = numbers.thresholds.calibration
            found[one.digest] = numbers
        self._store.tidy()
        return found

    def _finished(self, variant: Variant, found: Detections) -> Evaluation:
        if not self._labelled:
            own = own_objects(self._truth, found, self._fixed_threshold)
            self._truth, self._labelled = self._store.begin(own), True
        numbers = evaluate(
            self._truth,
            found,
            score_threshold=self._threshold,
            fixed_threshold=self._fixed_threshold,
        )
        self._store.finish(variant, numbers, found)
        return numbers
