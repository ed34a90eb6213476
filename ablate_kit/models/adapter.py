"""What a framework must offer so that its detectors can be ablated and evaluated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from detector.data.dataset import Dataset, Pixels

MAX_DETECTIONS = 100  # per image, as COCO counts


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image, in pixels of the original image."""

    boxes: npt.NDArray[np.float64]  # (k, 4) xyxy
    scores: npt.NDArray[np.float64]  # (k,)
    labels: npt.NDArray[np.int64]  # (k,) index into the adapter's classes


class Adapter(Protocol):
    """A detector, ready to run in evaluation mode."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        """For each tensor of the checkpoint, its names in ``module.state_dict()``.

        A tensor that the checkpoint holds once may be shared by several modules.
        """

    def detect(self, images: Sequence[Pixels]) -> list[ImageDetections]:
        """Detections of (height, width, 3) RGB images, best first; not thresholded."""


def detect_all(
    adapter: Adapter,
    dataset: Dataset,
    *,
    batch_size: int = 8,
    advance: Callable[[int], None] = lambda _: None,
) -> Detections:
    """Runs a detector over a data set.

    Detections of classes that the data set does not have are left out; the first 100 of the rest
    count. ``advance`` is told how many images are done, batch by batch.
    """
    label_of = match_classes(adapter.classes, dataset.classes)
    images: list[npt.NDArray[np.int64]] = []
    found: list[ImageDetections] = []
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        for index, raw in zip(
            indices, adapter.detect([dataset.image(i) for i in indices]), strict=True
        ):
            labels = label_of[raw.labels]
            # A cut can drive a network to infinity; what is no number is no detection.
            usable = np.isfinite(raw.scores) & np.isfinite(raw.boxes).all(axis=1)
            keep = np.flatnonzero(usable & (labels >= 0))[:MAX_DETECTIONS]
            images.append(np.full(len(keep), index))
            found.append(ImageDetections(raw.boxes[keep], raw.scores[keep], labels[keep]))
        advance(len(indices))
    return Detections(
        image=np.concatenate(images),
        boxes=np.concatenate([one.boxes for one in found]),
        scores=np.concatenate([one.scores for one in found]),
        labels=np.concatenate([one.labels for one in found]),
    )


def ground_truth(dataset: Dataset) -> GroundTruth:
    """The annotations of a data set in the form that metrics take."""
    if len(dataset) == 0:
        raise UserError("the data set has no images")
    images = [dataset.annotations(index) for index in range(len(dataset))]
    return GroundTruth(
        image_ids=np.array([one.image_id for one in images], dtype=np.int64),
        widths=np.array([one.width for one in images], dtype=np.int64),
        heights=np.array([one.height for one in images], dtype=np.int64),
        image=np.repeat(np.arange(len(images)), [len(one.labels) for one in images]),
        boxes=np.concatenate([one.boxes for one in images]),
        labels=np.concatenate([one.labels for one in images]),
        ignore=np.concatenate([one.ignore for one in images]),
        areas=np.concatenate([one.areas for one in images]),
        ids=np.concatenate([one.ids for one in images]),
        classes=tuple(dataset.classes),
        category_ids=tuple(dataset.category_ids),
    )


def match_classes(model: Sequence[str], dataset: Sequence[str]) -> npt.NDArray[np.int64]:
    """For each class of the model its index in the data set, by name; -1 where it has none.

    Raises ``UserError`` when no name agrees.
    """
    index = {name: i for i, name in enumerate(dataset)}
    labels = np.array([index.get(name, -1) for name in model], dtype=np.int64)
    if (labels < 0).all():
        raise UserError(
            f"the model's classes ({_few(model)}) and the data set's ({_few(dataset)}) have no "
            "name in common"
        )
    return labels


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... {len(names)} in all" if len(names) > 3 else "")
