"""COCO results: a JSON list of ``image_id``, ``category_id``, ``bbox``, ``score``."""

from pathlib import Path

import numpy as np

from ablate_kit.metrics.columns import integers, numbers
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.dumps.files import json_rows
from ablate_kit.metrics.dumps.raw import Raw, position


def read_coco_json(path: Path, truth: GroundTruth, *, has_sizes: bool) -> Raw:
    """The rows of a COCO results file, plain or gzipped, read in blocks.

    Raises:
        UserError: no such file, not JSON, no list, or a row without one of its four values.
    """
    where, columns, first = str(path), [], 0
    for rows in json_rows(path):
        columns.append(
            (
                integers(rows, "image_id", where, first),
                integers(rows, "category_id", where, first),
                numbers(rows, "bbox", where, (4,), first=first, finite=False),
                numbers(rows, "score", where, first=first, finite=False),
            )
        )
        first += len(rows)
    image_ids, category_ids, boxes, scores = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    return Raw(
        image=position(image_ids, truth.image_ids),
        labels=position(category_ids, np.asarray(truth.category_ids, dtype=np.int64)),
        boxes=boxes,
        scores=scores,
        has_sizes=has_sizes,
        files=(where,),
        starts=(0,),
        first_line=0,
        image_names=image_ids,
        label_names=category_ids,
    )
