"""The inner loop of resampled average precision, compiled by numba; needs the extra ``fast``.

The same sums in the same order as ``resampled_ap.RecallLevels.area``, hence the same bits, but in
one pass: a block of resamples stays in the fastest memory from the first detection to the last sum.

Helpers are inlined and index whole arrays: to pass an array, or a row of one, costs as much as the
sums of a block.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK = 256  # resamples at a time: their counts of 4,000 images are 1 MB


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    how: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        found: Callable[..., Any] = numba.njit(**how, cache=True)(function)
    except RuntimeError:  # nothing can be written beside this file, or at home
        found = numba.njit(**how)(function)
    return found


inlined = numba.njit(nogil=True, error_model="numpy", inline="always")


@compiled
def precisions(  # type: ignore[no-untyped-def]
    weights, most, image, hits, ignored, starts, ends, ious, positives, above, odd, ap, ap50
):
    """Fills ``ap``, the mean over IoUs, and ``ap50``, of the first: (classes, samples) each.

    Args:
        weights: (blocks, images, BLOCK) uint8, how often each image counts.
        most: so many detections can be counted in 8 bits.
        image: (detections,) by class, and by falling score within one.
        hits, ignored: (detections,) a bit for each IoU at which it is.
        starts, ends: (classes,) the detections of each.
        positives: (classes, samples) objects.
        above: (101,) the recall levels that hits do not reach which reach them exactly.
        odd: (100,) whether there may be such hits, by the objects' number modulo 100.
    """
    samples = positives.shape[1]
    objects, scale = np.ones((len(weights), BLOCK)), np.empty((len(weights), BLOCK))
    unclear = np.empty((len(weights), BLOCK), np.int64)  # columns that may reach a level exactly
    areas = np.empty((ious, len(weights), BLOCK))
    for one in range(len(starts)):
        rows = starts[one] + np.flatnonzero(hits[starts[one] : ends[one]])
        upto = rows[-1] + 1 if len(rows) else starts[one]
        others = starts[one] + np.flatnonzero(ignored[starts[one] : upto])
        unclear[:] = -1
        for block in range(len(weights)):
            count = 0
            for column in range(min(BLOCK, samples - block * BLOCK)):
                objects[block, column] = max(positives[one, block * BLOCK + column], 1.0)
                if odd[np.int64(objects[block, column]) % 100]:
                    unclear[block, count] = column
                    count += 1
            for column in range(BLOCK):
                scale[block, column] = 100 / objects[block, column] * (1 + 1e-9)
        _areas(
            weights, most, image, starts[one], rows, hits[rows], others, ignored[others],
            objects, scale, unclear, above, areas,
        )  # fmt: skip
        for sample in range(samples):
            block, column = sample // BLOCK, sample % BLOCK
            total = 0.0
            for i in range(ious):
                total += areas[i, block, column] / len(above)
            defined = positives[one, sample] > 0
            ap[one, sample] = total / ious if defined else np.nan
            ap50[one, sample] = areas[0, block, column] / len(above) if defined else np.nan


@compiled
def _areas(  # type: ignore[no-untyped-def]
    weights,
    most,
    image,
    start,
    rows,
    hits,
    others,
    ignored,
    positives,
    scale,
    unclear,
    above,
    found,
):
    """Fills ``found``: (ious, blocks, BLOCK), sums of precision over recall levels, of one class.

    A function of its own, whose arrays it allocates: only so are its loops made of vector
    instructions.
    """
    seen = np.empty((len(rows), BLOCK), np.int32)
    short, total = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.int32)
    true, gone = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    level, exact = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    area, best, fault = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    where = image[rows]
    for block in range(len(weights)):
        _count(weights, block, most, image, start, rows, short, total, seen)
        for i in range(len(found)):
            bit = 1 << i
            area[:], best[:], fault[:], true[:], gone[:], exact[:] = 0, 0, 0, 0, 0, -1
            last = -1
            for k in range(len(rows)):
                if hits[k] & bit:
                    last = rows[k]
                    _add(true, weights, block, where[k], 1)
            other = -1
            while other + 1 < len(others) and others[other + 1] < last:
                other += 1
                if ignored[other] & bit:
                    _add(gone, weights, block, image[others[other]], 1)
            for k in range(BLOCK):
                column = unclear[block, k]
                if column < 0:
                    break
                level[column], exact[column] = _next(100, positives[block, column], above)
            reached = True
            for k in range(len(rows) - 1, -1, -1):
                if not hits[k] & bit:
                    continue
                while other >= 0 and others[other] > rows[k]:
                    if ignored[other] & bit:
                        _add(gone, weights, block, image[others[other]], -1)
                    other -= 1
                if reached:
                    for j in range(BLOCK):
                        column = unclear[block, j]
                        if column < 0:
                            break
                        while true[column] < exact[column]:
                            level[column], exact[column] = _next(
                                level[column] - 1, positives[block, column], above
                            )
                        if true[column] == exact[column]:
                            counted = max(seen[k, column] - gone[column], 1)
                            growth = true[column] / counted - best[column]
                            fault[column] += max(growth, 0.0)
                reached = _grow(
                    area, best, true, seen, k, gone, scale, weights, block, where[k], exact
                )
            for column in range(BLOCK):
                found[i, block, column] = (area[column] + best[column]) - fault[column]


@inlined
def _count(  # type: ignore[no-untyped-def]
    weights, block, most, image, start, rows, short, total, seen
):
    """How many detections there are up to each row, by column."""
    total[:] = 0
    at = start
    for k in range(len(rows)):
        while at <= rows[k]:
            end = min(rows[k] + 1, at + most)
            short[:] = 0
            for detection in range(at, end):
                one = image[detection]
                for column in range(BLOCK):
                    short[column] = np.uint8(short[column] + weights[block, one, column])
            for column in range(BLOCK):
                total[column] = np.int32(total[column] + np.int32(short[column]))
            at = end
        for column in range(BLOCK):
            seen[k, column] = total[column]


@inlined
def _add(total, weights, block, one, sign):  # type: ignore[no-untyped-def]
    for column in range(BLOCK):
        total[column] = np.int32(total[column] + sign * np.int32(weights[block, one, column]))


@inlined
def _grow(  # type: ignore[no-untyped-def]
    area, best, true, seen, k, gone, scale, weights, block, one, exact
):
    """Counts a hit; whether any column has come to a level that it may reach exactly."""
    reached = np.int32(0)
    for column in range(BLOCK):
        now = np.float64(true[column])
        counted = max(np.int32(seen[k, column] - gone[column]), np.int32(1))
        precision = max(now / np.float64(counted), best[column])
        area[column] += (precision - best[column]) * np.floor(now * scale[block, column])
        best[column] = precision
        true[column] = np.int32(true[column] - np.int32(weights[block, one, column]))
        reached |= np.int32(true[column] <= exact[column])
    return reached > 0


@compiled
def _next(level, positives, above):  # type: ignore[no-untyped-def]
    """The highest level up to this one that hits may reach exactly without reaching it; how many
    hits that takes. Level 0 has none."""
    whole = np.int64(positives)
    while level > 0 and not (above[level] and level * whole % 100 == 0):
        level -= 1
    return level, level * whole // 100 if level else -1
