"""Which boxes overlap: all pairs of detections and ground truths that share a cell."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.boxes import coco_overlap
from ablate_kit.metrics.detections import Detections, GroundTruth

# Candidate pairs looked at in one go, few enough for their numbers to stay in fast memory; bounds
# time and memory, not the result.
_BLOCK = 1 << 15

Indices = NDArray[np.int64]


def overlapping(
    ground_truth: GroundTruth,
    detections: Detections,
    counted: Indices,
    cell: Indices,
    truth_cell: Indices,
    least: float,
    *,
    crowd: NDArray[np.bool_] | None = None,
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Pairs in one cell that overlap by ``least``: position in ``counted``, ground truth, overlap.

    A cell is one class in one image, or one image: ``cell`` of every detection in ``counted``,
    ``truth_cell`` of every ground truth. Overlap is IoU, but intersection over the detection's own
    area for a ``crowd``. The first column of the result ascends.
    """
    by_cell = np.argsort(truth_cell, kind="stable")
    first = np.searchsorted(truth_cell[by_cell], cell, side="left")
    count = np.searchsorted(truth_cell[by_cell], cell, side="right") - first
    crowd = np.zeros(len(ground_truth), dtype=bool) if crowd is None else crowd
    detection_xywh, truth_xywh = detections.xywh, ground_truth.xywh
    found = []
    for start, stop in blocks(count):
        position = np.repeat(np.arange(start, stop), count[start:stop])
        target = by_cell[first[position] + turns(position)]
        overlap = coco_overlap(detection_xywh[counted[position]], truth_xywh[target], crowd[target])
        enough = overlap >= least
        found.append((position[enough], target[enough], overlap[enough]))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    position, target, overlap = (np.concatenate(part) for part in zip(*found, strict=True))
    return position, target, overlap


def is_first(keys: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Where a run of equal keys begins."""
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return first


def turns(keys: NDArray[np.integer[Any]]) -> Indices:
    """Position of every element within its run of equal keys."""
    first = is_first(keys)
    return np.arange(len(keys)) - np.flatnonzero(first)[np.cumsum(first) - 1]


def blocks(counts: Indices) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive elements, as long as their counts sum to a block at most."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start] - counts[start]
        stop = max(int(np.searchsorted(ends, before + _BLOCK, side="right")), start + 1)
        yield start, stop
        start = stop
