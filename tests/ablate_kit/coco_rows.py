"""Rows of COCO results as detections, for tests that make them up."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablate_kit.metrics.detections import Detections, GroundTruth


def detections_of(rows: Sequence[Mapping[str, Any]], truth: GroundTruth) -> Detections:
    images, categories = truth.image_ids.tolist(), list(truth.category_ids)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Detections(
        image=np.array([images.index(row["image_id"]) for row in rows], dtype=np.int32),
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        scores=np.array([row["score"] for row in rows], dtype=np.float64),
        labels=np.array([categories.index(row["category_id"]) for row in rows], dtype=np.int32),
        sizes=boxes[:, 2:].copy(),
    )
