"""How far numbers, and their changes, would move with another sample of images.

A paired bootstrap over images: images are drawn with replacement, the same draws for all variants,
and an image drawn k times counts k times. Its detections are matched once; a draw only weighs them.
For every metric here that is exactly what evaluating a data set with repeated images would give
(average precision up to the order of equal scores).

Only random units of the data are resampled; repeats of a random ablation vary on top of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import Outcome, greedy_matches, hungarian_pairs

METRICS = ("AP", "AP50", "f1_calibrated", "giou_penalized")
RESAMPLES = 2000
LEVEL = 0.95
POWER = 0.8

_IOUS = np.linspace(0.5, 0.95, 10)  # as COCO has them
_RECALLS = np.linspace(0.0, 1.0, 101)
# COCO compares with these floats; some lie above the hundredth that they stand for.
_ABOVE = np.arange(101) / 100 < _RECALLS

Floats = NDArray[np.float64]
Samples = dict[str, Floats]  # metric to (resamples,); "AP per class" to (classes, resamples)


@dataclass(frozen=True)
class Change:
    """A variant's change of one metric against the baseline; None where it is not defined.

    Attributes:
        value: of the variant.
        change: against the baseline.
        low, high: 95 % percentile interval of the change.
        error: standard error of the change.
        p: two-sided, of no change, by the normal distribution of that error.
        p_holm: adjusted for all variants (Holm 1979), by metric.
    """

    value: float | None
    change: float | None
    low: float | None
    high: float | None
    error: float | None
    p: float | None
    p_holm: float | None

    @property
    def significant(self) -> bool:
        return self.p_holm is not None and self.p_holm < 1 - LEVEL

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


class Bootstrap:
    """Resampled metrics of any number of detections on one ground truth."""

    def __init__(self, truth: GroundTruth, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if resamples < 2:
            raise UserError(f"cannot resample {resamples} times; expected 2 or more")
        self._truth = truth
        self.weights = draws(len(truth.image_ids), resamples, seed)

    def samples(self, detections: Detections, threshold: float) -> Samples:
        """Every metric on every resample; NaN where one is not defined.

        ``threshold`` is the score that F1 and GIoU count from. The first number of each is that
        of the data as it is.
        """
        matches = [greedy_matches(self._truth, detections, iou) for iou in _IOUS]
        outcomes = np.stack([one.outcome for one in matches])
        ap, ap50 = self._precision(detections, outcomes)
        return {
            "AP": _mean_defined(ap),
            "AP50": _mean_defined(ap50),
            "f1_calibrated": self._f1(detections, outcomes[0], threshold),
            "giou_penalized": self._giou(detections, threshold),
            "AP per class": ap,
        }

    def _precision(
        self, detections: Detections, outcomes: NDArray[np.int8]
    ) -> tuple[Floats, Floats]:
        """AP and AP50 of each class and resample: (classes, resamples)."""
        truth, weights = self._truth, self.weights
        classes, count = len(truth.classes), weights.shape[1]
        ap, ap50 = np.full((classes, count), np.nan), np.full((classes, count), np.nan)
        order = np.lexsort((detections.image, -detections.scores.astype(np.float64)))
        by_class = order[np.argsort(detections.labels[order], kind="stable")]
        bounds = np.searchsorted(detections.labels[by_class], np.arange(classes + 1))
        counted = ~truth.ignore
        for label in range(classes):
            of_class = truth.image[counted & (truth.labels == label)]
            if not len(of_class):
                continue
            positives = np.bincount(of_class, minlength=len(weights)) @ weights
            chosen = by_class[bounds[label] : bounds[label + 1]]
            curves = self._class_precision(detections.image[chosen], outcomes[:, chosen], positives)
            curves[:, positives == 0] = np.nan
            ap[label], ap50[label] = curves.mean(axis=0), curves[0]
        return ap, ap50

    def _class_precision(
        self, image: NDArray[np.integer], outcomes: NDArray[np.int8], positives: NDArray[np.int64]
    ) -> Floats:
        """AP at each IoU and resample, of detections by falling score: (ious, resamples)."""
        found = np.zeros((len(outcomes), self.weights.shape[1]))
        hit = outcomes == Outcome.TRUE_POSITIVE
        rows = np.flatnonzero(hit.any(axis=0))  # precision peaks at hits: only they are looked at
        if not len(rows):
            return found
        # How many detections there are up to each row; those after the last hit do not matter.
        upto = slice(0, rows[-1] + 1)
        seen = self._weight(np.searchsorted(rows, np.arange(rows[-1] + 1)), image[upto], len(rows))
        np.cumsum(seen, axis=0, out=seen)
        for i, (hits, outcome) in enumerate(zip(hit[:, rows], outcomes[:, upto], strict=True)):
            own = rows[hits]
            if not len(own):
                continue
            true = np.cumsum(self.weights[image[own]], axis=0)
            total = seen[hits]
            ignored = np.flatnonzero(outcome == Outcome.IGNORED)
            if len(ignored):
                # Ignored detections after the last hit at this IoU fall off the end.
                step = np.searchsorted(own, ignored)
                inside = step < len(own)
                left_out = self._weight(step[inside], image[ignored[inside]], len(own))
                total = total - np.cumsum(left_out, axis=0)
            precision = np.divide(true, total, out=np.zeros(true.shape), where=total > 0)
            envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            # Each row stands for the recall levels that it is the first to reach.
            level = _levels(true, np.maximum(positives, 1))
            share = np.diff(level, axis=0, prepend=0)
            found[i] = (share * envelope).sum(axis=0) / len(_RECALLS)
        return found

    def _weight(
        self, row: NDArray[np.int64], image: NDArray[np.integer], rows: int
    ) -> NDArray[np.int64]:
        """(rows, resamples): how often the images of each row's detections are drawn, summed."""
        ones = np.ones(len(row), dtype=np.int64)
        counts = csr_array((ones, (row, image)), shape=(rows, len(self.weights)))
        return np.asarray(counts @ self.weights)

    def _f1(self, detections: Detections, outcome: NDArray[np.int8], threshold: float) -> Floats:
        kept = detections.scores.astype(np.float64) >= threshold
        true, false = (
            self._per_image(detections.image[kept & (outcome == kind)])
            for kind in (Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE)
        )
        support = self._support()
        return _ratio(2 * true, true + false + support, support)

    def _giou(self, detections: Detections, threshold: float) -> Floats:
        pairs = hungarian_pairs(self._truth, detections, threshold)
        image = self._truth.image[pairs.truth]
        gained = self._per_image(image, pairs.giou + 1)  # a miss counts -1
        support = self._support()
        return _ratio(gained - support, support, support)

    def _support(self) -> Floats:
        return self._per_image(self._truth.image[~self._truth.ignore])

    def _per_image(self, image: NDArray[np.integer], value: Floats | None = None) -> Floats:
        counts = np.bincount(image, weights=value, minlength=len(self.weights))
        return counts.astype(np.float64) @ self.weights


def draws(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """(images, 1 + resamples): how often each image counts; in the first column, once each."""
    generator = np.random.Generator(np.random.Philox(seed))
    counts = np.ones((images, resamples + 1), dtype=np.int64)
    for i in range(1, resamples + 1):
        counts[:, i] = np.bincount(generator.integers(0, images, images), minlength=images)
    return counts


def changes(baseline: Samples, variants: Sequence[Samples]) -> list[dict[str, Change]]:
    """Each variant's change of every metric, with its interval; p-values adjusted by metric."""
    found: list[dict[str, Change]] = [{} for _ in variants]
    for metric in METRICS:
        rows = [_change(baseline[metric], variant[metric]) for variant in variants]
        adjusted = holm([row["p"] for row in rows])
        for one, row, p_holm in zip(found, rows, adjusted, strict=True):
            one[metric] = Change(**row, p_holm=p_holm)
    return found


def class_changes(baseline: Samples, variant: Samples) -> list[Change]:
    """The change of each class's AP; p-values adjusted over the classes."""
    pairs = zip(baseline["AP per class"], variant["AP per class"], strict=True)
    rows = [_change(*pair) for pair in pairs]
    return [
        Change(**row, p_holm=p)
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True)
    ]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment: the k-th smallest of m is multiplied by m - k + 1, and none is
    smaller than one before it."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = highest
    return adjusted


def smallest_detectable(found: Sequence[Mapping[str, Change]], metric: str) -> float | None:
    """The change that a variant of median standard error shows, at 5 %, four times out of five."""
    errors = [one[metric].error for one in found]
    usable = [error for error in errors if error]
    if not usable:
        return None
    factor = norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)
    return float(factor * np.median(usable))


def _change(before: Floats, after: Floats) -> dict[str, float | None]:
    difference = after - before
    value, change = after[0], difference[0]
    resampled = difference[1:][np.isfinite(difference[1:])]
    if not np.isfinite(change) or len(resampled) < 2:
        none = dict.fromkeys(("change", "low", "high", "error", "p"))
        return {"value": float(value) if np.isfinite(value) else None, **none}
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    error = float(resampled.std(ddof=1))
    p = 2 * float(norm.sf(abs(change) / error)) if error > 0 else float(change == 0)
    return {
        "value": float(value),
        "change": float(change),
        "low": float(low),
        "high": float(high),
        "error": error,
        "p": p,
    }


def _levels(true: NDArray[np.int64], positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of COCO's recall levels are at most ``true / positives``."""
    level = np.minimum(100 * true // positives, 100)
    return level + 1 - (_ABOVE[level] & (level * positives == 100 * true))


def _mean_defined(values: Floats) -> Floats:
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _ratio(part: Floats, whole: Floats, defined: Floats) -> Floats:
    found = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return np.where(defined > 0, found, np.nan)
