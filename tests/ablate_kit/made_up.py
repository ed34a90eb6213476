"""Ground truth, detections and results for tests that make them up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, Thresholds
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result


def truth_of(
    image: Any,
    boxes: Any,
    labels: Any,
    *,
    images: int = 1,
    classes: Sequence[str] = ("a",),
    side: int = 100,
    **columns: Any,
) -> GroundTruth:
    """Objects on so many images, squares of ``side`` pixels; ``columns`` that are unusual.

    Usually no object is a crowd, areas are those of boxes, and ids count, those of classes from 1.
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    usual = {
        "image_ids": np.arange(images),
        "widths": np.full(images, side),
        "heights": np.full(images, side),
        "image": np.asarray(image, dtype=int),
        "boxes": boxes,
        "labels": np.asarray(labels, dtype=int),
        "ignore": np.zeros(len(boxes), dtype=bool),
        "areas": (boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        "ids": np.arange(len(boxes)) + 1,
        "classes": tuple(classes),
        "category_ids": tuple(range(1, len(classes) + 1)),
    }
    return GroundTruth(**(usual | columns))


def found_of(image: Any, boxes: Any, scores: Any, labels: Any) -> Detections:
    """Detections from lists."""
    return Detections(
        np.asarray(image, dtype=int),
        np.asarray(boxes, dtype=float).reshape(-1, 4),
        np.asarray(scores, dtype=float),
        np.asarray(labels, dtype=int),
    )


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two boxes, in words."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def detections_of(rows: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Detections:
    """Rows of COCO results."""
    images, categories = truth.image_ids.tolist(), list(truth.category_ids)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Detections(
        image=np.array([images.index(row["image_id"]) for row in rows], dtype=np.int32),
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        labels=np.array([categories.index(row["category_id"]) for row in rows], dtype=np.int32),
        sizes=boxes[:, 2:].copy(),
    )


def result_of(
    name: str,
    kind: str = "any",
    value: float = 0.5,
    factors: Mapping[str, Any] | None = None,
    *,
    ap: float | None = None,
    images: int = 0,
    thresholds: Thresholds | None = None,
) -> Result:
    """All numbers are ``value``, AP may be another; of 300 objects on so many images."""
    numbers = dict.fromkeys(KEYS, value) | ({} if ap is None else {"AP": ap})
    counts = {"images": images, "ground_truths": 300} if images else {}
    evaluation = Evaluation(numbers, {}, thresholds or Thresholds(0.5, 0.3, True), counts)
    return Result(name, kind, evaluation, name, lambda: Detections.concatenate([]), factors or {})
