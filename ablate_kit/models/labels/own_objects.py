"""Images without labels: what the unmodified model finds in them stands for their objects."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from detector.data.dataset import Dataset, is_labelled, with_whole
from detector.data.formats.image_folder import WithClasses


def looked_at_for(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Images without labels with the classes of a model; others as they are."""
    if is_labelled(dataset) or dataset.classes:
        return dataset
    names = tuple(dict.fromkeys(classes))
    return with_whole(dataset, lambda images: WithClasses(images, names))


def own_objects(images: GroundTruth, found: Detections, score: float) -> GroundTruth:
    """The boxes of at least this score that the unmodified model finds, as objects of the images.

    Held against them, those very detections are right throughout: they come first, each overlaps
    its own object entirely, and the rest has lower scores.

    Raises:
        UserError: there are none.
    """
    scores = found.scores.astype(np.float64)
    kept = np.flatnonzero(scores >= score)
    if not len(kept):
        best = f"its best has {scores.max():.3g}" if len(scores) else "it finds nothing at all"
        raise UserError(
            f"none of the unmodified model's boxes on the {len(images.image_ids):,} images has a "
            f"score of {score:g} ({best}), so there is nothing to compare variants with; "
            "--score-threshold, or evaluation.score_threshold of a recipe, sets the score"
        )
    kept = kept[np.argsort(found.image[kept], kind="stable")]
    corners, sizes = found.boxes[kept].astype(np.float64), found.xywh[kept, 2:]
    return replace(
        images,
        image=found.image[kept].astype(np.int64),
        boxes=np.concatenate([corners[:, :2], corners[:, :2] + sizes], axis=1),
        labels=found.labels[kept].astype(np.int64),
        ignore=np.zeros(len(kept), dtype=np.bool_),
        areas=sizes.prod(axis=1),
        ids=np.arange(1, len(kept) + 1),
        sizes=sizes,
        own_score=score,
    )
