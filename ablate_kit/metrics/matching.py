"""Which detection belongs to which ground truth: COCO's greedy matching, and Hungarian pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.optimize import linear_sum_assignment

from ablate_kit.metrics.boxes import giou
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.order import by_falling
from ablate_kit.metrics.overlaps import Indices, blocks, is_first, overlapping, turns

# Square pixels; COCO's range "all" is 0 to this.
_LARGEST_AREA = 1e10


class Outcome(IntEnum):
    """What a detection counts as."""

    IGNORED = -1
    FALSE_POSITIVE = 0
    TRUE_POSITIVE = 1


@dataclass(frozen=True, eq=False)
class Matches:
    """What every detection of one evaluation counts as, at one IoU threshold.

    The matching goes by descending score, so dropping all detections below a score leaves the rest
    of it as it is: one matching serves every score threshold.
    """

    outcome: NDArray[np.int8]  # (detections,) an ``Outcome`` each, in the order of the detections
    truth: Indices  # (detections,) index of the matched ground truth, -1 without one
    scores: NDArray[np.float64]  # (detections,) float64
    labels: NDArray[np.integer[Any]]  # (detections,) index of the detection's class
    support: Indices  # (classes,) ground truths that are to be found, ignored ones left out


@dataclass(frozen=True, eq=False)
class BoxPairs:
    """One-to-one pairs of ground truths and detections, by image."""

    truth: Indices  # (pairs,) index into the ground truth's boxes
    detection: Indices  # (pairs,) index into the detections
    giou: NDArray[np.float64]  # (pairs,) generalized IoU of the two


@dataclass(frozen=True, eq=False)
class OverPairs:
    """A number over pairs of all classes, and (classes,) over those of each."""

    overall: float
    per_class: NDArray[np.float64]


def greedy_matches(ground_truth: GroundTruth, detections: Detections, iou: float = 0.5) -> Matches:
    """COCO's assignment at one IoU threshold, as pycocotools makes it for all box sizes.

    Within an image and class, the detections take by descending score (ties in their given order)
    the free ground truth they overlap most, if by at least ``iou``; of two overlapped equally, the
    later one. A detection that finds none but overlaps an ignored region, by ``iou`` of its own
    area, is ignored; such a region serves any number of detections. As in AP, ignored are too:
    detections beyond the best ``max_detections`` of their image and class, and unmatched ones whose
    area is negative or above 1e10 square pixels.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    (found,) = greedy_matches_at(ground_truth, detections, (iou,))
    return found


def greedy_matches_at(
    ground_truth: GroundTruth, detections: Detections, ious: Sequence[float]
) -> Iterator[Matches]:
    """``greedy_matches`` at several thresholds; boxes are compared with each other once."""
    detections.check_against(ground_truth)
    classes = len(ground_truth.classes)
    truth_cell = ground_truth.image.astype(np.int64) * classes + ground_truth.labels
    cell = detections.image.astype(np.int64) * classes + detections.labels
    scores = detections.scores.astype(np.float64)

    ranked = by_falling(scores, detections.labels, detections.image)
    counted = ranked[turns(cell[ranked]) < ground_truth.max_detections]
    cell = cell[counted]
    candidate, target, overlap = overlapping(
        ground_truth,
        detections,
        counted,
        cell,
        truth_cell,
        min(*ious, 1 - 1e-10),
        crowd=ground_truth.ignore,
    )
    best_first = np.lexsort((-target, -overlap, ground_truth.ignore[target], candidate))
    candidate, target, overlap = candidate[best_first], target[best_first], overlap[best_first]
    width, height = detections.xywh[:, 2:].T
    area = (width * height)[counted]
    unmatched = np.full(len(detections), Outcome.IGNORED, dtype=np.int8)
    unmatched[counted] = np.where(
        (area < 0) | (area > _LARGEST_AREA), Outcome.IGNORED, Outcome.FALSE_POSITIVE
    )
    support = np.bincount(ground_truth.labels[~ground_truth.ignore], minlength=classes)
    for iou in ious:
        enough = overlap >= min(iou, 1 - 1e-10)
        truth = np.full(len(detections), -1, dtype=np.int64)
        truth[counted] = _assign(candidate[enough], target[enough], cell, ground_truth.ignore)
        outcome = unmatched.copy()
        matched = np.flatnonzero(truth >= 0)
        outcome[matched] = np.where(
            ground_truth.ignore[truth[matched]], Outcome.IGNORED, Outcome.TRUE_POSITIVE
        )
        yield Matches(outcome, truth, scores, detections.labels, support)


def greedy_pairs(
    ground_truth: GroundTruth, detections: Detections, kept: Indices, iou: float = 0.5
) -> Indices:
    """(kept,) the ground truth that each of some detections takes, whatever its class, or -1.

    As ``greedy_matches``, but over the classes, and of two overlapped equally the one of the
    detection's own class; every one of ``kept`` counts.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    detections.check_against(ground_truth)
    ranked = np.lexsort((-detections.scores[kept].astype(np.float64), detections.image[kept]))
    rows = kept[ranked]
    cell = detections.image[rows].astype(np.int64)
    ignore = ground_truth.ignore
    candidate, target, overlap = overlapping(
        ground_truth,
        detections,
        rows,
        cell,
        ground_truth.image.astype(np.int64),
        min(iou, 1 - 1e-10),
        crowd=ignore,
    )
    other = detections.labels[rows[candidate]] != ground_truth.labels[target]
    best_first = np.lexsort((target, other, -overlap, ignore[target], candidate))
    taken = np.empty(len(kept), dtype=np.int64)
    taken[ranked] = _assign(candidate[best_first], target[best_first], cell, ignore)
    return taken


def hungarian_pairs(
    ground_truth: GroundTruth,
    detections: Detections,
    min_score: float | NDArray[np.float64] | None = None,
    *,
    include_ignored: bool = False,
    precision: DTypeLike = np.float64,
) -> BoxPairs:
    """Per image, the one-to-one pairs of boxes with the largest sum of GIoU; classes play no part.

    An image with g ground truths and d detections gives min(g, d) pairs, however poor.

    Args:
        min_score: only detections of at least this score take part, one or one per detection; None
            takes all.
        include_ignored: whether ignored ground truths take part.
        precision: floating type that GIoU is computed in.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    detections.check_against(ground_truth)
    truth = np.flatnonzero(~ground_truth.ignore | include_ignored)
    kept = np.arange(len(detections))
    if min_score is not None:
        kept = np.flatnonzero(detections.scores.astype(np.float64) >= min_score)
    found = kept[np.argsort(detections.image[kept], kind="stable")]
    truth_boxes = ground_truth.boxes[truth].astype(precision)
    found_boxes = detections.boxes[found].astype(precision)

    pairs = []
    for rows, columns, gain in _gains(
        ground_truth.image[truth], truth_boxes, detections.image[found], found_boxes
    ):
        row, column = linear_sum_assignment(gain, maximize=True)
        pairs.append((row + rows.start, column + columns.start, gain[row, column]))
    if not pairs:
        none = np.zeros(0, dtype=np.int64)
        return BoxPairs(none, none, np.zeros(0))
    row, column, gain = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return BoxPairs(truth[row], found[column], gain.astype(np.float64))


def published_pairs(ground_truth: GroundTruth, detections: Detections) -> BoxPairs:
    """The pairs of the published Deep Dissect protocol: crowds and every score take part.

    GIoU is computed in single precision, as its code does; in double precision its numbers come out
    up to 1e-6 different.
    """
    return hungarian_pairs(ground_truth, detections, include_ignored=True, precision=np.float32)


def _assign(
    candidate: Indices, target: Indices, cell: Indices, reusable: NDArray[np.bool_]
) -> Indices:
    """Give every detection its first target that is still free; -1 where there is none.

    Cells do not share targets, so the next detection of every cell is served at once: as many
    rounds as the fullest cell has detections with a candidate.

    Args:
        candidate: (pairs,) detections by rank, ascending; within one, the best target first.
        target: (pairs,)
        cell: (detections,) of every detection, ascending.
        reusable: (targets,) whether a target stays free.
    """
    taken = np.full(len(cell), -1, dtype=np.int64)
    free = np.ones(len(reusable), dtype=bool)
    begins = is_first(candidate)
    turn = turns(cell[candidate[begins]])[np.cumsum(begins) - 1]
    by_turn = np.argsort(turn, kind="stable")
    bounds = np.append(np.flatnonzero(is_first(turn[by_turn])), len(turn))
    for start, stop in pairwise(bounds):
        pairs = by_turn[start:stop]
        pairs = pairs[free[target[pairs]]]
        pairs = pairs[is_first(candidate[pairs])]
        taken[candidate[pairs]] = target[pairs]
        free[target[pairs]] = reusable[target[pairs]]
    return taken


def _gains(
    truth_image: NDArray[np.integer[Any]],
    truth_boxes: NDArray[np.floating[Any]],
    found_image: NDArray[np.integer[Any]],
    found_boxes: NDArray[np.floating[Any]],
) -> Iterator[tuple[slice, slice, NDArray[np.floating[Any]]]]:
    """Ranges of ground truths and of detections of every image that has both, and their GIoU."""
    both = np.intersect1d(truth_image, found_image)
    first, truths, start, founds = (
        one for images in (truth_image, found_image) for one in _ranges(np.asarray(images), both)
    )
    size = truths * founds
    for begin, end in blocks(size):  # the overlaps of many images at a time
        of = np.repeat(np.arange(begin, end), size[begin:end])
        row, column = np.divmod(turns(of), founds[of])
        gain = giou(truth_boxes[first[of] + row], found_boxes[start[of] + column])
        bounds = np.append(0, np.cumsum(size[begin:end])).tolist()
        for i, (low, high) in zip(range(begin, end), pairwise(bounds), strict=True):
            yield (
                slice(int(first[i]), int(first[i] + truths[i])),
                slice(int(start[i]), int(start[i] + founds[i])),
                gain[low:high].reshape(int(truths[i]), int(founds[i])),
            )


def _ranges(images: NDArray[np.integer[Any]], chosen: NDArray[Any]) -> tuple[Indices, Indices]:
    """Where the rows of each chosen image begin, and how many there are; ``images`` ascends."""
    first = np.searchsorted(images, chosen, side="left")
    return first, np.searchsorted(images, chosen, side="right") - first
