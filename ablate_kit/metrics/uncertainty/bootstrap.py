"""Metrics on other samples of images: resamples of the data, and the data with images left out.

A paired bootstrap over images: images are drawn with replacement, the same draws for all variants,
and an image drawn k times counts k times. Its detections are matched once; a draw only weighs them.
For every metric here that is exactly what evaluating a data set with repeated images would give
(average precision up to the order of equal scores). ``significance`` makes intervals of them.

Only random units of the data are resampled; repeats of a random ablation vary on top of that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ablate_kit.errors import UserError
from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.fidelity import MEASURES, counts
from ablate_kit.metrics.matching import Outcome, greedy_matches_at, hungarian_pairs

RESAMPLES = 2000
GROUPS = 200  # images are left out one by one up to so many, and in so many groups beyond

_IOUS = np.linspace(0.5, 0.95, 10)  # as COCO has them
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_RECALLS = np.linspace(0.0, 1.0, 101)
# COCO compares with these floats; some lie above the hundredth that they stand for.
_ABOVE = np.arange(101) / 100 < _RECALLS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sampled:
    """One metric, or sums of several, on the data and on samples of it; NaN: not defined.

    Attributes:
        value: on the data as it is.
        resampled: (resamples,) on bootstrap resamples.
        left_out: (groups,) on the data without each of several groups of images.
        images: how many images tell of it: for a class, those that show it.
        ratio: whether it is a quotient of sums over images; else it is a mean over classes.
    """

    value: float
    resampled: Floats
    left_out: Floats
    images: int
    ratio: bool

    def __add__(self, other: "Sampled") -> "Sampled":
        return Sampled(
            self.value + other.value,
            self.resampled + other.resampled,
            self.left_out + other.left_out,
            self.images,
            self.ratio,
        )

    def __sub__(self, other: "Sampled") -> "Sampled":
        return Sampled(
            self.value - other.value,
            self.resampled - other.resampled,
            self.left_out - other.left_out,
            self.images,
            self.ratio,
        )


@dataclass(frozen=True)
class Samples:
    """Every metric of one set of detections; and the AP of each class that has objects, in their
    order, where it was asked for."""

    overall: Mapping[str, Sampled]
    ap_per_class: tuple[Sampled, ...]


class Bootstrap:
    """Resampled metrics of any number of detections on one ground truth."""

    def __init__(self, truth: GroundTruth, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if resamples < 2:
            raise UserError(f"cannot resample {resamples} times; expected 2 or more")
        self._truth = truth
        images = len(truth.image_ids)
        self._resamples = resamples
        # One column each: the data as it is, the resamples, and the data without a group.
        self.weights = np.concatenate(
            [draws(images, resamples, seed), left_out(images, min(images, GROUPS), seed)], axis=1
        )
        self._weights = self.weights.astype(np.float64)  # which holds all counts exactly
        self.classes = np.unique(truth.labels[~truth.ignore])  # those with objects, as samples are

    def samples(
        self, detections: Detections, threshold: float | Calibration, *, per_class: bool = True
    ) -> Samples:
        """Every metric on every sample; F1 and GIoU count from ``threshold`` on.

        Thresholds stay those of the data as it is: each image keeps the one that it was given.
        Without ``per_class`` memory does not grow with the classes.
        """
        calibration = Calibration(threshold) if isinstance(threshold, float) else threshold
        cut = calibration.of_images(self._truth)[detections.image]
        matches = greedy_matches_at(self._truth, detections, _IOUS.tolist())
        outcomes = np.stack([one.outcome for one in matches])
        images, columns = self._weights.shape
        mean, mean50 = _Mean(columns), _Mean(columns)
        rows = []
        for ap, ap50 in self._precision(detections, outcomes):
            mean.add(ap)
            mean50.add(ap50)
            if per_class:
                rows.append(ap)
        f1 = self._f1(detections, outcomes[0], cut)
        overall = {
            "AP": self._sampled(mean.value(), images),
            "AP50": self._sampled(mean50.value(), images),
            "f1_calibrated": self._sampled(f1, images, ratio=True),
            "giou_penalized": self._sampled(self._giou(detections, cut), images, ratio=True),
        }
        if self._truth.own_score is not None:
            overall |= self._fidelity(detections)
        classes = zip(rows, self._images_of_classes(), strict=True) if per_class else ()
        return Samples(overall, tuple(self._sampled(*one) for one in classes))

    def _sampled(self, values: Floats, images: int, *, ratio: bool = False) -> Sampled:
        end = 1 + self._resamples
        return Sampled(float(values[0]), values[1:end], values[end:], images, ratio)

    def _images_of_classes(self) -> list[int]:
        """How many images show an object of each class that has any."""
        real = ~self._truth.ignore
        count = len(self._truth.image_ids)
        cells = self._truth.labels[real].astype(np.int64) * count + self._truth.image[real]
        _, images = np.unique(np.unique(cells) // count, return_counts=True)
        return [int(one) for one in images]  # of the classes in their order

    def _precision(
        self, detections: Detections, outcomes: NDArray[np.int8]
    ) -> Iterator[tuple[Floats, Floats]]:
        """AP and AP50 on every resample, of one class with objects after the other."""
        weights = self._weights
        order = np.lexsort((detections.image, -detections.scores.astype(np.float64)))
        by_class = _grouped(detections.labels, self.classes, order)
        objects = _grouped(self._truth.labels, self.classes, np.flatnonzero(~self._truth.ignore))
        for rows, chosen in zip(objects, by_class, strict=True):
            positives = np.bincount(self._truth.image[rows], minlength=len(weights)) @ weights
            curves = self._class_precision(detections.image[chosen], outcomes[:, chosen], positives)
            curves[:, positives == 0] = np.nan
            yield curves.mean(axis=0), curves[0]

    def _class_precision(
        self, image: NDArray[np.integer], outcomes: NDArray[np.int8], positives: Floats
    ) -> Floats:
        """AP at each IoU and resample, of detections by falling score: (ious, resamples)."""
        found = np.zeros((len(outcomes), self._weights.shape[1]))
        hit = outcomes == Outcome.TRUE_POSITIVE
        rows = np.flatnonzero(hit.any(axis=0))  # precision peaks at hits: only they are looked at
        if not len(rows):
            return found
        # How many detections there are up to each row; those after the last hit do not matter.
        upto = slice(0, rows[-1] + 1)
        seen = self._weight(np.searchsorted(rows, np.arange(rows[-1] + 1)), image[upto], len(rows))
        np.cumsum(seen, axis=0, out=seen)
        drawn = self._weights[image[rows]]
        levels = _Levels(positives)
        for i, (hits, outcome) in enumerate(zip(hit[:, rows], outcomes[:, upto], strict=True)):
            own = np.flatnonzero(hits)
            if not len(own):
                continue
            ignored = np.flatnonzero(outcome == Outcome.IGNORED)
            # Ignored detections after the last hit at this IoU fall off the end.
            before = np.searchsorted(rows[own], ignored)
            left_out: dict[int, NDArray[np.integer]] = {
                step: image[ignored[before == step]] for step in set(before) - {len(own)}
            }
            found[i] = levels.area(self._weights, drawn, own, seen, left_out) / len(_RECALLS)
        return found

    def _weight(self, row: NDArray[np.int64], image: NDArray[np.integer], rows: int) -> Floats:
        """(rows, resamples): how often the images of each row's detections are drawn, summed."""
        ones = np.ones(len(row))
        counts = csr_array((ones, (row, image)), shape=(rows, len(self._weights)))
        return np.asarray(counts @ self._weights)

    def _f1(self, detections: Detections, outcome: NDArray[np.int8], cut: Floats) -> Floats:
        kept = detections.scores.astype(np.float64) >= cut
        true, false = (
            self._per_image(detections.image[kept & (outcome == kind)])
            for kind in (Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE)
        )
        support = self._support()
        return _ratio(2 * true, true + false + support, support)

    def _giou(self, detections: Detections, cut: Floats) -> Floats:
        pairs = hungarian_pairs(self._truth, detections, cut)
        image = self._truth.image[pairs.truth]
        gained = self._per_image(image, pairs.giou + 1)  # a miss counts -1
        support = self._support()
        return _ratio(gained - support, support, support)

    def _fidelity(self, detections: Detections) -> dict[str, Sampled]:
        of_images = counts(self._truth, detections)
        found = {}
        for one in MEASURES:
            part, whole = (
                getattr(of_images, name) @ self._weights for name in (one.part, one.whole)
            )
            ratio = _ratio(part, whole, whole)
            found[one.key] = self._sampled(ratio, len(self._weights), ratio=True)
        return found

    def _support(self) -> Floats:
        return self._per_image(self._truth.image[~self._truth.ignore])

    def _per_image(self, image: NDArray[np.integer], value: Floats | None = None) -> Floats:
        counts = np.bincount(image, weights=value, minlength=len(self._weights))
        return counts.astype(np.float64) @ self._weights


def draws(images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """(images, 1 + resamples): how often each image counts; in the first column, once each."""
    generator = np.random.Generator(np.random.Philox(seed))
    counts = np.ones((images, resamples + 1), dtype=np.int64)
    for i in range(1, resamples + 1):
        counts[:, i] = np.bincount(generator.integers(0, images, images), minlength=images)
    return counts


def left_out(images: int, groups: int, seed: int) -> NDArray[np.int64]:
    """(images, groups): 0 for the images of a group, dealt by lot and evenly; else 1."""
    generator = np.random.Generator(np.random.Philox([seed, 1]))
    group = generator.permutation(images) % max(groups, 1)
    return (group[:, None] != np.arange(groups)).astype(np.int64)


class _Levels:
    """COCO's recall levels, and the area under a precision curve that they sample, by resample."""

    def __init__(self, positives: Floats) -> None:
        self._positives = np.maximum(positives, 1)
        # 100 hits / positives rounded down is the level that they reach. A little more than there
        # is settles rounding, and is less than one hit of ten million adds.
        self._scale = 100 / self._positives * (1 + 1e-9)
        # But of a level whose float lies above its hundredth, hits that reach it exactly do not.
        above = np.flatnonzero(_ABOVE)
        exact = (above[:, None] * self._positives) % 100 == 0
        self._odd = np.flatnonzero(exact.any(axis=0))  # resamples on which there may be such

    def area(
        self,
        weights: Floats,
        drawn: Floats,
        hits: NDArray[np.integer],
        seen: Floats,
        left_out: Mapping[int, NDArray[np.integer]],
    ) -> Floats:
        """(resamples,): the sum over recall levels of the best precision from there on.

        From the last hit to the first: what the best precision grows by counts for all levels that
        are reached by then. One row of resamples at a time stays in the fastest memory.

        Args:
            weights: (images, resamples), how often each image is drawn.
            drawn: (rows, resamples), the same for the image of each row's detection.
            hits: the rows of the hits, by falling score.
            seen: (rows, resamples), detections up to a row, itself included.
            left_out: by the number of the next hit, images of detections that do not count.
        """
        true = drawn[hits].sum(axis=0)
        ignored = sum((weights[one].sum(axis=0) for one in left_out.values()), np.zeros_like(true))
        area, best = np.zeros_like(true), np.zeros_like(true)
        precision, level, total = (np.empty_like(true) for _ in range(3))
        growths = np.empty((len(hits), len(self._odd)))
        with np.errstate(invalid="ignore"):  # no detection drawn yet: 0 / 0, which counts as none
            for i in range(len(hits) - 1, -1, -1):
                if left_out:
                    np.subtract(seen[hits[i]], ignored, out=total)
                    np.divide(true, total, out=precision)
                    for image in left_out.get(i, ()):
                        ignored -= weights[image]
                else:
                    np.divide(true, seen[hits[i]], out=precision)
                np.fmax(precision, best, out=precision)
                np.subtract(precision, best, out=best)
                np.take(best, self._odd, out=growths[i], mode="clip")  # unbuffered
                np.multiply(true, self._scale, out=level)
                np.floor(level, out=level)
                level *= best
                area += level
                best, precision = precision, best
                true -= drawn[hits[i]]
        area += best  # recall 0 is reached from the start
        area[self._odd] -= self._not_reached(drawn[np.ix_(hits, self._odd)], growths)
        return area

    def _not_reached(self, drawn: Floats, growths: Floats) -> Floats:
        """What was counted for levels that hits reach exactly, but do not reach as floats."""
        true = np.cumsum(drawn, axis=0)
        level = np.floor(true * self._scale[self._odd])
        exactly = level * self._positives[self._odd] == 100 * true
        exactly &= _ABOVE[level.astype(np.intp)]
        found: Floats = (growths * exactly).sum(axis=0)
        return found


def _grouped(
    labels: NDArray[np.integer], classes: NDArray[np.integer], order: NDArray[np.integer]
) -> Iterator[NDArray[np.integer]]:
    """The rows of each class, in ``order``."""
    rows = order[np.argsort(labels[order], kind="stable")]
    starts, ends = (np.searchsorted(labels[rows], classes, side) for side in _SIDES)
    return (rows[start:end] for start, end in zip(starts, ends, strict=True))


class _Mean:
    """The mean of rows, where they are defined."""

    def __init__(self, size: int) -> None:
        self._total, self._count = np.zeros(size), np.zeros(size, dtype=np.int64)

    def add(self, values: Floats) -> None:
        defined = np.isfinite(values)
        self._total += np.where(defined, values, 0.0)
        self._count += defined

    def value(self) -> Floats:
        nothing = np.full(len(self._total), np.nan)
        return np.divide(self._total, self._count, out=nothing, where=self._count > 0)


def _ratio(part: Floats, whole: Floats, defined: Floats) -> Floats:
    found = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return np.where(defined > 0, found, np.nan)
