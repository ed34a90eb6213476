"""Metrics on other samples of images: resamples of the data, and the data with images left out.

A paired bootstrap over images: images are drawn with replacement, the same draws for all variants,
and an image drawn k times counts k times. (Where images belong together, as the frames of a video
do, their clusters are drawn.) Its detections are matched once; a draw only weighs them.
For every metric here that is exactly what evaluating a data set with repeated images would give
(average precision up to the order of equal scores). ``significance`` makes intervals of them.

Only random units of the data are resampled; repeats of a random ablation vary on top of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.fidelity import MEASURES, counts
from ablate_kit.metrics.matching import Outcome, hungarian_pairs
from ablate_kit.metrics.uncertainty.dependent_images import families, freedom
from ablate_kit.metrics.uncertainty.matched import Matched
from ablate_kit.metrics.uncertainty.resampled_ap import ResampledPrecision, counted

RESAMPLES = 2000
MOST_RESAMPLES = 1_000_000  # more would not fit into memory, and change no digit that is shown
_DRAWN = 64  # resamples at a time
GROUPS = 200  # images are left out one by one up to so many, and in so many groups beyond

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sampled:
    """One metric, or sums of several, on the data and on samples of it; NaN: not defined."""

    value: float  # on the data as it is
    resampled: Floats  # (resamples,) on bootstrap resamples
    left_out: Floats  # (groups,) on the data without each of several groups of images
    # How many images tell of it: for AP those that show an object, of the class where it is that of
    # one; clusters of images where the ground truth has them.
    images: int
    ratio: bool  # whether it is a quotient of sums over images; else it is a mean over classes
    drawn: int | None = None  # how many there are, where not all of them tell
    # Degrees of freedom, where clusters of several sizes leave fewer than images - 1.
    freedom: float | None = None

    @property
    def all_images(self) -> int:
        """Those that tell of it, and the others."""
        return self.images if self.drawn is None else self.drawn

    def __sub__(self, other: "Sampled") -> "Sampled":
        return replace(
            self,
            value=self.value - other.value,
            resampled=self.resampled - other.resampled,
            left_out=self.left_out - other.left_out,
        )


@dataclass(frozen=True)
class Samples:
    """Every metric of one set of detections; and the AP of each class that has objects, in their
    order, where it was asked for."""

    overall: Mapping[str, Sampled]
    ap_per_class: tuple[Sampled, ...]


class Bootstrap:
    """Resampled metrics of any number of detections on one ground truth.

    ``sets``: of how many it is going to be asked; by that the quickest way to them is chosen.
    """

    def __init__(self, truth: GroundTruth, resamples: int, seed: int = 0, *, sets: int = 1) -> None:
        if resamples < 2:
            raise UserError(f"cannot resample {resamples} times; expected 2 or more")
        self._truth = truth
        self._resamples = resamples
        # What is drawn, and left out: each image, or all images of a cluster at once.
        images = len(truth.image_ids)
        self._unit = np.arange(images) if truth.clusters is None else families(truth)
        self._units = units = int(self._unit.max()) + 1
        # One column each: the data as it is, the resamples, and the data without a group.
        groups = min(units, GROUPS)
        drawn = draws(units, resamples, seed, room=groups)
        drawn[:, 1 + resamples :] = left_out(units, groups, seed)
        self.weights = drawn if truth.clusters is None else drawn[self._unit]
        self._precision = ResampledPrecision(truth, self.weights, sets)
        self.classes = self._precision.classes  # those with objects, as samples are
        # How many images each holds; and of an object, without which AP sees false positives alone.
        self._sizes = np.bincount(self._unit)
        self._showing = self._images_of(np.unique(truth.image[~truth.ignore]))
        self._support = self._sums(_per_image(images, truth.image[~truth.ignore]))[0]

    def samples(
        self, detections: Detections, threshold: float | Calibration, *, per_class: bool = True
    ) -> Samples:
        """Every metric on every sample; F1 and GIoU count from ``threshold`` on.

        Thresholds stay those of the data as it is: each image keeps the one that it was given.
        Without ``per_class`` memory does not grow with the classes.
        """
        calibration = Calibration(threshold) if isinstance(threshold, float) else threshold
        cut = calibration.of_images(self._truth)[detections.image]
        matched = Matched.of(self._truth, detections)
        images = len(self.weights)
        rows: list[Floats] | None = [] if per_class else None
        ap, ap50 = self._precisions(matched, rows)
        kept = detections.scores.astype(np.float64) >= cut
        true, false = (
            _per_image(images, detections.image[kept & (matched.outcomes[0] == kind)])
            for kind in (Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE)
        )
        pairs = hungarian_pairs(self._truth, detections, cut)
        gained = _per_image(images, self._truth.image[pairs.truth], pairs.giou + 1)
        true, false, gained = self._sums(true, false, gained)
        support = self._support
        f1 = _ratio(2 * true, true + false + support, support)
        giou = _ratio(gained - support, support, support)  # a miss counts -1
        overall = {
            "AP": self._sampled(ap, self._showing),
            "AP50": self._sampled(ap50, self._showing),
            "f1_calibrated": self._sampled(f1, self._sizes, ratio=True),
            "giou_penalized": self._sampled(giou, self._sizes, ratio=True),
        }
        if self._truth.own_score is not None:
            overall |= self._fidelity(detections)
        classes = () if rows is None else zip(rows, self._images_of_classes(), strict=True)
        return Samples(overall, tuple(self._sampled(*one) for one in classes))

    def ap(self, matched: Matched) -> Sampled:
        """AP alone on every sample."""
        return self._sampled(self._precisions(matched, None)[0], self._showing)

    def _precisions(self, matched: Matched, rows: list[Floats] | None) -> tuple[Floats, Floats]:
        """AP and AP50 on every sample; the AP of each class is added to ``rows``."""
        mean, mean50 = (_Mean(self.weights.shape[1]) for _ in range(2))
        for ap, ap50 in self._precision.of(matched):
            mean.add(ap)
            mean50.add(ap50)
            if rows is not None:
                rows.append(ap)
        return mean.value(), mean50.value()

    def _sampled(
        self, values: Floats, sizes: NDArray[np.integer], *, ratio: bool = False
    ) -> Sampled:
        """``sizes``: of the clusters that tell of it, images that do."""
        end = 1 + self._resamples
        return Sampled(
            value=float(values[0]),
            resampled=values[1:end],
            left_out=values[end:],
            images=len(sizes),
            ratio=ratio,
            drawn=self._units,
            freedom=freedom(sizes),
        )

    def _images_of(self, images: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many of these images each cluster that has any of them holds."""
        found = np.bincount(self._unit[images])
        return found[found > 0]

    def _images_of_classes(self) -> list[NDArray[np.int64]]:
        """The images that show an object of each class that has any, in their order."""
        real = ~self._truth.ignore
        count = len(self._unit)
        cells = np.unique(
            self._truth.labels[real].astype(np.int64) * count + self._truth.image[real]
        )
        starts = np.flatnonzero(np.diff(cells // count, prepend=-1))
        return [self._images_of(one % count) for one in np.split(cells, starts)[1:]]

    def _fidelity(self, detections: Detections) -> dict[str, Sampled]:
        of_images = counts(self._truth, detections)
        found = {}
        for one in MEASURES:
            part, whole = self._sums(getattr(of_images, one.part), getattr(of_images, one.whole))
            ratio = _ratio(part, whole, whole)
            found[one.key] = self._sampled(ratio, self._sizes, ratio=True)
        return found

    def _sums(self, *of_images: Floats) -> Floats:
        """Each of some counts per image, on every sample."""
        return counted(np.stack(of_images), self.weights)


def draws(
    images: int, resamples: int, seed: int, *, room: int = 0
) -> NDArray[np.unsignedinteger[Any]]:
    """(images, 1 + resamples): how often each image counts; in the first column, and in so many
    more columns as there is to be ``room``, once each."""
    generator = np.random.Generator(np.random.Philox(seed))
    found = np.ones((images, 1 + resamples + room), dtype=np.uint8)
    for start in range(1, 1 + resamples, _DRAWN):
        end = min(start + _DRAWN, 1 + resamples)
        counts = np.empty((end - start, images), dtype=np.uint16)
        for row in counts:
            row[:] = np.bincount(generator.integers(0, images, images), minlength=images)
        if counts.max() > np.iinfo(found.dtype).max:
            found = found.astype(np.uint16)
        found[:, start:end] = counts.T
    return found


def left_out(images: int, groups: int, seed: int) -> NDArray[np.uint8]:
    """(images, groups): 0 for the images of a group, dealt by lot and evenly; else 1."""
    generator = np.random.Generator(np.random.Philox([seed, 1]))
    group = generator.permutation(images) % max(groups, 1)
    return (group[:, None] != np.arange(groups)).astype(np.uint8)


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


def _per_image(images: int, image: NDArray[np.integer], value: Floats | None = None) -> Floats:
    return np.bincount(image, weights=value, minlength=images).astype(np.float64)


def _ratio(part: Floats, whole: Floats, defined: Floats) -> Floats:
    found = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return np.where(defined > 0, found, np.nan)
