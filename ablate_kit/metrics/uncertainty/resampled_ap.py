"""Average precision on many resamples at once, of detections that were matched before.

A resample weighs images; precision and recall after each detection are weighted counts. Precision
peaks at hits, so only they are looked at. Two ways give the same bits: NumPy's, hit by hit, and one
that numba compiles (the extra ``fast``), which is taken where it saves more than loading it costs.
"""

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.matching import Outcome
from ablate_kit.metrics.order import by_falling, stable_order
from ablate_kit.metrics.uncertainty.matched import Matched

_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
_RECALLS = np.linspace(0.0, 1.0, 101)
# COCO compares with these floats; some lie above the hundredth that they stand for.
_ABOVE = np.arange(101) / 100 < _RECALLS
# By the number of objects modulo 100: whether hits may reach such a level exactly.
_ODD = (np.flatnonzero(_ABOVE)[:, None] * np.arange(100) % 100 == 0).any(axis=0)

_BLOCK = 256  # resamples at a time, not compiled: their counts of 500 images are 1 MB
_COUNTS = 1 << 23  # counts of resamples at a time, not compiled: 64 MB
_AT_ONCE = 512  # detections whose counts are added up at a time
_HITS = 32
_CLASSES = 64  # at a time, compiled
_WORTH = 10**8  # detections times resamples, of all sets, from which on loading numba (1 s) pays

Floats = NDArray[np.float64]


class ResampledPrecision:
    """AP of each class that has objects, on samples of the images of one ground truth.

    Args:
        weights: (images, samples) how often each image counts, in as small a type as holds it.
        sets: of how many sets of detections AP is going to be asked; no number depends on it.
    """

    def __init__(
        self, truth: GroundTruth, weights: NDArray[np.unsignedinteger[Any]], sets: int = 1
    ) -> None:
        self._weights = weights
        self._by_id = _rank(truth.image_ids)
        self._sets = sets
        real = np.flatnonzero(~truth.ignore)
        self.classes = np.unique(truth.labels[real])
        objects = csr_array(
            (np.ones(len(real)), (np.searchsorted(self.classes, truth.labels[real]),
                                  truth.image[real])),
            shape=(len(self.classes), len(weights)),
        )  # fmt: skip
        self._positives = counted(objects, weights)

    def of(self, matched: Matched) -> Iterator[tuple[Floats, Floats]]:
        """AP and AP50 on every sample, of one class after the other; NaN: without objects."""
        work = len(matched) * self._weights.shape[1] * self._sets
        if work >= _WORTH and self._weights.itemsize == 1 and _numba() is not None:
            return self.compiled(matched)
        return self.plain(matched)

    def plain(self, matched: Matched) -> Iterator[tuple[Floats, Floats]]:
        """As ``of``, by NumPy."""
        rows, starts, ends = self._by_class(matched)
        for start, end, positives in zip(starts, ends, self._positives, strict=True):
            chosen = rows[start:end]
            curves = self._areas(matched.image[chosen], matched.outcomes[:, chosen], positives)
            curves /= len(_RECALLS)
            curves[:, positives == 0] = np.nan
            yield curves.mean(axis=0), curves[0]

    def compiled(self, matched: Matched) -> Iterator[tuple[Floats, Floats]]:
        """What ``plain`` gives, to the last bit."""
        precisions = _numba().precisions
        rows, starts, ends = self._by_class(matched)
        image = matched.image[rows].astype(np.int32)
        hits, ignored = (
            _bits(matched.outcomes == kind)[rows]
            for kind in (Outcome.TRUE_POSITIVE, Outcome.IGNORED)
        )
        most = np.iinfo(np.uint8).max // max(int(self._blocks.max()), 1)
        for first in range(0, len(self.classes), _CLASSES):
            some = slice(first, first + _CLASSES)
            positives = self._positives[some]
            ap, ap50 = np.empty(positives.shape), np.empty(positives.shape)
            precisions(
                self._blocks, most, image, hits, ignored, starts[some], ends[some],
                len(matched.outcomes), positives, _ABOVE, _ODD, ap, ap50,
            )  # fmt: skip
            yield from zip(ap, ap50, strict=True)

    def _by_class(
        self, matched: Matched
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Detections by class, by falling score within one; where each class starts and ends."""
        image, scores, labels = matched.image, matched.scores, matched.labels
        # Equal scores in the order of the images' ids, as pycocotools has them.
        place = self._by_id[image]
        first = stable_order(place) if np.any(place[1:] < place[:-1]) else None
        order = by_falling(scores if first is None else scores[first])
        order = order if first is None else first[order]
        rows = order[stable_order(labels[order])]
        starts, ends = (np.searchsorted(labels[rows], self.classes, side) for side in _SIDES)
        return rows, starts, ends

    def _areas(
        self, image: NDArray[np.integer], outcomes: NDArray[np.int8], positives: Floats
    ) -> Floats:
        """(ious, samples): summed precision over recall levels, of detections by falling score."""
        found = np.zeros((len(outcomes), self._weights.shape[1]))
        hit = outcomes == Outcome.TRUE_POSITIVE
        rows = np.flatnonzero(hit.any(axis=0))
        if not len(rows):
            return found
        image, outcomes = image[: rows[-1] + 1], outcomes[:, : rows[-1] + 1]
        parts = max(1, len(rows) * found.shape[1] // _COUNTS)
        step = max(-(-found.shape[1] // parts), _BLOCK)
        for start in range(0, found.shape[1], step):
            part = slice(start, start + step)
            weights = self._weights[:, part]
            seen, drawn = _seen(weights, image, rows), weights[image[rows]]
            levels = RecallLevels(positives[part])
            for area, hits, outcome in zip(found, hit[:, rows], outcomes, strict=True):
                own = np.flatnonzero(hits)
                if not len(own):
                    continue
                ignored = np.flatnonzero(outcome == Outcome.IGNORED)
                # Ignored detections after the last hit at this IoU fall off the end.
                before = np.searchsorted(rows[own], ignored)
                left_out: dict[int, NDArray[np.integer]] = {
                    number: image[ignored[before == number]] for number in set(before) - {len(own)}
                }
                area[part] = levels.area(weights, drawn, own, seen, left_out)
        return found

    @cached_property
    def _blocks(self) -> NDArray[np.uint8]:
        """(blocks, images, columns): the weights of some samples at a time, the last of them 0."""
        images, samples = self._weights.shape
        size = _numba().BLOCK
        found = np.zeros((-(-samples // size), images, size), dtype=np.uint8)
        for i, block in enumerate(found):
            part = self._weights[:, i * size : (i + 1) * size]
            block[:, : part.shape[1]] = part
        return found


def _rank(ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """(images,) the place of each in the order of the ids."""
    found = np.empty(len(ids), dtype=np.int64)
    found[np.argsort(ids)] = np.arange(len(ids))
    return found


@cache
def _numba() -> Any:
    """Loaded where it is needed, for numba takes a second and is an extra. None where it is not
    there, or does not load, as beside a NumPy that is newer than it."""
    if not find_spec("numba"):
        return None
    try:
        return import_module("ablate_kit.metrics.uncertainty.compiled_ap")
    except Exception:  # whatever is wrong with it, NumPy gives the same bits
        return None


def _seen(
    weights: NDArray[np.unsignedinteger[Any]], image: NDArray[np.integer], rows: NDArray[np.integer]
) -> Floats:
    """(rows, samples): how many detections there are up to each of some rows; 1 for none."""
    seen = np.empty((len(rows), weights.shape[1]))
    ends = rows + 1
    begins = np.append(0, ends[:-1])
    total, first = np.zeros(weights.shape[1]), 0
    while first < len(rows):
        begin = begins[first]
        last = max(int(np.searchsorted(ends, begin + _AT_ONCE, side="right")), first + 1)
        drawn = weights[image[begin : ends[last - 1]]].astype(np.float64)
        bounds = np.append(begin, ends[first:last]) - begin
        ones = (np.ones(len(drawn)), np.arange(len(drawn)), bounds)
        part = seen[first:last]
        part[:] = csr_array(ones, shape=(len(part), len(drawn))) @ drawn
        for row in part:
            row += total
            total = row
        first = last
    return np.maximum(seen, 1, out=seen)  # where there is none, there is no hit either


def counted(
    of_images: NDArray[np.float64] | csr_array, weights: NDArray[np.unsignedinteger[Any]]
) -> Floats:
    """(rows, samples): sums over images, (rows, images), on every sample.

    In blocks of samples, so that little memory is taken, and image by image, so that no library's
    own threads change a bit.
    """
    rows = csr_array(of_images)
    found = np.empty((rows.shape[0], weights.shape[1]))
    for start in range(0, weights.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        found[:, part] = rows @ weights[:, part].astype(np.float64)
    return found


def _drawn(weights: NDArray[np.unsignedinteger[Any]], image: NDArray[np.integer]) -> Floats:
    """(samples,): how often some images are drawn, summed."""
    return np.asarray(weights[image].sum(axis=0, dtype=np.float64))


def _bits(marks: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """(columns,): a bit for each row in which a column is marked."""
    found = np.zeros(marks.shape[1], dtype=np.uint16)
    for i, row in enumerate(marks):
        found |= row.astype(np.uint16) << np.uint16(i)
    return found


class RecallLevels:
    """COCO's recall levels, and the area under a precision curve that they sample, by resample."""

    def __init__(self, positives: Floats) -> None:
        self.positives = np.maximum(positives, 1)
        # 100 hits / positives rounded down is the level that they reach. A little more than there
        # is settles rounding, and is less than one hit of ten million adds.
        self.scale = 100 / self.positives * (1 + 1e-9)
        # But of a level whose float lies above its hundredth, hits that reach it exactly do not.
        self.odd = np.flatnonzero(_ODD[self.positives.astype(np.int64) % 100])

    def area(
        self,
        weights: NDArray[np.unsignedinteger[Any]],
        drawn: NDArray[np.unsignedinteger[Any]],
        hits: NDArray[np.integer],
        seen: Floats,
        left_out: Mapping[int, NDArray[np.integer]],
    ) -> Floats:
        """(resamples,): the sum over recall levels of the best precision from there on.

        From the last hit to the first: what the best precision grows by counts for all levels that
        are reached by then. Some hits at a time stay in fast memory. What runs along the hits goes
        row by row, for NumPy's own sums and maxima along the first axis are slow.

        Args:
            weights: (images, resamples), how often each image is drawn.
            drawn: (rows, resamples), the same for the image of each row's detection.
            hits: the rows of the hits, by falling score.
            seen: (rows, resamples), detections up to a row, itself included.
            left_out: by the number of the next hit, images of detections that do not count.
        """
        size, backwards = drawn.shape[1], hits[::-1]
        shape = min(_HITS, len(hits)) + 1, size
        true, best, area = np.empty(shape), np.zeros(shape), np.zeros(size)
        true[0] = drawn[hits].sum(axis=0, dtype=np.float64)
        ignored = sum((_drawn(weights, one) for one in left_out.values()), np.zeros(size))
        growths = np.empty((len(hits), len(self.odd)))
        for start in range(0, len(hits), _HITS):
            rows = backwards[start : start + _HITS]
            count = len(rows)
            for row, one in enumerate(drawn[rows]):
                np.subtract(true[row], one, out=true[row + 1])
            precision = best[1 : count + 1]
            np.take(seen, rows, axis=0, out=precision, mode="clip")
            if left_out:
                for number, row in enumerate(precision, start + 1):
                    row -= ignored
                    if (one := left_out.get(len(hits) - number)) is not None:
                        ignored -= _drawn(weights, one)
                np.maximum(precision, 1, out=precision)
            np.divide(true[:count], precision, out=precision)
            for row in range(count):
                np.maximum(best[row], best[row + 1], out=best[row + 1])
            growth = precision - best[:count]
            growths[start : start + count] = growth[:, self.odd]
            level = true[:count] * self.scale
            np.floor(level, out=level)
            level *= growth
            level[0] += area
            area = level.sum(axis=0)  # one after the other
            true[0], best[0] = true[count], best[count]
        area += best[0]  # recall 0 is reached from the start
        area[self.odd] -= self._not_reached(drawn[np.ix_(hits, self.odd)], growths)
        return area

    def _not_reached(self, drawn: NDArray[np.unsignedinteger[Any]], growths: Floats) -> Floats:
        """What was counted for levels that hits reach exactly, but do not reach as floats."""
        true = np.cumsum(drawn, axis=0, dtype=np.float64)[::-1]
        level = np.floor(true * self.scale[self.odd])
        exactly = level * self.positives[self.odd] == 100 * true
        exactly &= _ABOVE[level.astype(np.intp)]
        found: Floats = np.cumsum(growths * exactly, axis=0)[-1]  # in this order
        return found
