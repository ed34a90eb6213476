"""Photographs on which a variant changes most, with the boxes of before and after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.error_types import Errors, errors
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.transitions import changes
from ablate_kit.reports.box_drawings import draw, side_by_side
from detector.data.dataset import Dataset

WIDTH, HEIGHT = 640, 480  # pixels of one of the two pictures, at most
LEAST = 360  # its width, at least


@dataclass(frozen=True)
class Example:
    """One image, before and after."""

    variant: str
    image_id: int
    file_name: str
    # lost, gained: objects of the image that only the unmodified model finds, and only the variant,
    # at the common score threshold.
    lost: int
    gained: int
    picture: Image.Image


def examples(
    truth: GroundTruth, dataset: Dataset, baseline: Result, variants: Sequence[Result]
) -> Iterator[Example]:
    """For each variant the image, not shown before, on which most objects are lost or gained."""
    threshold = baseline.evaluation.thresholds.calibrated
    before = errors(truth, baseline.detections, threshold)
    shown: set[int] = set()
    for variant in variants:
        lost, gained = _by_image(truth, before, errors(truth, variant.detections, threshold))
        order = np.argsort(-(lost + gained), kind="stable").tolist()
        index = next((i for i in order if i not in shown and lost[i] + gained[i]), None)
        if index is None:
            continue
        shown.add(index)
        pixels = dataset.image(index)
        pictures = [
            _drawn(pixels, one.detections, index, threshold, truth.classes)
            for one in (baseline, variant)
        ]
        yield Example(
            variant.name,
            int(truth.image_ids[index]),
            dataset.annotations(index).file_name,
            int(lost[index]),
            int(gained[index]),
            side_by_side(pictures),
        )


def _by_image(
    truth: GroundTruth, before: Errors, after: Errors
) -> tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", ...]:
    found = changes(truth, before, after)
    count = len(truth.image_ids)
    return tuple(
        np.bincount(truth.image[which], minlength=count) for which in (found.lost, found.gained)
    )


def _drawn(
    pixels: "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]",
    found: Detections,
    index: int,
    threshold: float,
    classes: Sequence[str],
) -> Image.Image:
    mine = np.flatnonzero((found.image == index) & (found.scores >= threshold))
    height, width = pixels.shape[:2]
    factor = min(max(1.0, LEAST / width), WIDTH / width, HEIGHT / height)
    if factor != 1:
        size = round(width * factor), round(height * factor)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    labels = found.labels[mine].tolist()
    captions = [
        f"{classes[label]} {score:.2f}"
        for label, score in zip(labels, found.scores[mine].tolist(), strict=True)
    ]
    boxes = found.boxes[mine].astype(np.float64) * factor
    return draw(pixels, boxes, captions, labels)
