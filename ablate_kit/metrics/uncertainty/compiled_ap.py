"""The inner loop of resampled average precision, compiled by numba; needs the extra ``fast``.

The same sums in the same order as ``resampled_ap.RecallLevels.area``, hence the same bits, but in
one pass: a block of resamples stays in the fastest memory from the first detection to the last sum.
"""

import numba
import numpy as np

_SHORT = 128  # detections that are counted in 16 bits before they are added up: 128 x 255 < 2^16

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@compiled
def areas(  # type: ignore[no-untyped-def]
    weights, image, rows, hits, others, ignored, positives, scale, odd, above, found
):
    """Fills ``found``: (ious, blocks, columns), the sums of precision over recall levels.

    Args:
        weights: (blocks, images, columns) uint8, how often each image is drawn.
        image: (detections,) of one class, by falling score, up to the last hit.
        rows: (rows,) those of the detections that are a hit at any IoU.
        hits: (rows,) a bit for each IoU at which it is.
        others, ignored: the same for those that are ignored at any IoU.
        positives, scale: (blocks, columns), as of ``RecallLevels``.
        odd: (blocks, columns) the columns with levels that hits may reach exactly, then -1.
        above: (101,) the levels that are not reached then.
    """
    blocks, _, columns = weights.shape
    seen = np.empty((len(rows), columns), np.int32)
    true, gone = np.empty(columns, np.int32), np.empty(columns, np.int32)
    best, fault = np.empty(columns), np.empty(columns)
    level, exact = np.empty(columns, np.int32), np.empty(columns, np.int32)
    for block in range(blocks):
        drawn = weights[block]
        _count(drawn, image, rows, seen)
        for i in range(len(found)):
            bit, area = 1 << i, found[i, block]
            area[:], best[:], fault[:], true[:], gone[:] = 0, 0, 0, 0, 0
            last = -1
            for row in range(len(rows)):
                if hits[row] & bit:
                    last = rows[row]
                    _add(true, drawn[image[last]], 1)
            other = -1
            while other + 1 < len(others) and others[other + 1] < last:
                other += 1
                if ignored[other] & bit:
                    _add(gone, drawn[image[others[other]]], 1)
            exact[:] = -1
            for column in odd[block]:
                if column < 0:
                    break
                level[column], exact[column] = _next(100, positives[block, column], above)
            for row in range(len(rows) - 1, -1, -1):
                if not hits[row] & bit:
                    continue
                while other >= 0 and others[other] > rows[row]:
                    if ignored[other] & bit:
                        _add(gone, drawn[image[others[other]]], -1)
                    other -= 1
                if _any_reached(true, exact):
                    for column in odd[block]:
                        if column < 0:
                            break
                        while true[column] < exact[column]:
                            level[column], exact[column] = _next(
                                level[column] - 1, positives[block, column], above
                            )
                        if true[column] == exact[column]:
                            counted = max(seen[row, column] - gone[column], 1)
                            growth = true[column] / counted - best[column]
                            fault[column] += max(growth, 0.0)
                _grow(area, best, true, seen[row], gone, scale[block])
                _add(true, drawn[image[rows[row]]], -1)
            for column in range(columns):
                area[column] = (area[column] + best[column]) - fault[column]


@compiled
def _count(drawn, image, rows, seen):  # type: ignore[no-untyped-def]
    """How many detections there are up to each row, by column."""
    columns = drawn.shape[1]
    short, total = np.empty(columns, np.uint16), np.zeros(columns, np.int32)
    at = 0
    for row in range(len(rows)):
        while at <= rows[row]:
            end = min(rows[row] + 1, at + _SHORT)
            short[:] = 0
            for detection in range(at, end):
                one = drawn[image[detection]]
                for column in range(columns):
                    short[column] = np.uint16(short[column] + np.uint16(one[column]))
            for column in range(columns):
                total[column] = np.int32(total[column] + np.int32(short[column]))
            at = end
        seen[row] = total


@compiled
def _add(total, one, sign):  # type: ignore[no-untyped-def]
    for column in range(len(total)):
        total[column] = np.int32(total[column] + sign * np.int32(one[column]))


@compiled
def _grow(area, best, true, seen, gone, scale):  # type: ignore[no-untyped-def]
    for column in range(len(area)):
        counted = max(np.int32(seen[column] - gone[column]), np.int32(1))
        precision = max(np.float64(true[column]) / np.float64(counted), best[column])
        level = np.floor(np.float64(true[column]) * scale[column])
        area[column] += (precision - best[column]) * level
        best[column] = precision


@compiled
def _any_reached(true, exact):  # type: ignore[no-untyped-def]
    reached = np.int32(0)
    for column in range(len(true)):
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
