"""Ground truth and detections as columns: one array per property, no object per box.

Corners and sizes cannot both be exact: ``(x + w) - x`` rounds. Boxes are corners here, and a store
read from COCO JSON also keeps the sizes the file gave (``sizes``), so that writing gives the file's
numbers back and COCO evaluation sees exactly what pycocotools would see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.boxes import Floats
from ablate_kit.metrics.column_checks import (
    Ints,
    check_boxes,
    check_column,
    check_range,
    check_unique,
    index_of,
    integers,
    numbers,
    values,
)

# COCO's limit of detections per class and image, and the least one: AR10 takes ten.
MAX_DETECTIONS = 100
FEWEST_DETECTIONS = 11


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotated boxes of a set of images, sorted by image.

    Attributes:
        image_ids: (images,) the data set's own ids, each once.
        widths, heights: (images,) pixels; 0 where the data set does not say.
        image: (n,) index into ``image_ids``, ascending.
        boxes: (n, 4) x1, y1, x2, y2 in pixels.
        labels: (n,) index into ``classes``.
        ignore: (n,) regions that are neither to be found nor counted against a detection: COCO's
            crowds. They are matched by COCO's rule for crowds.
        areas: (n,) square pixels, for the size ranges of AP; COCO's are of the object's mask.
        ids: (n,) the data set's own annotation ids, each once. No number depends on them.
        classes: names, each once.
        category_ids: the data set's own class ids, in the order of ``classes``.
        sizes: (n, 2) width and height as the source gave them; None where it gave corners.
        max_detections: how many detections of a class count in an image, best first. Data with more
            objects than that in an image needs a larger limit.
        clusters: (images,) which cluster each image is of, such as the video that it is a frame of:
            images of one cluster tell of each other, and clusters are what is drawn for intervals.
            None: every image tells for itself.
        own_score: of images that nobody labelled, whose objects are the boxes that the unmodified
            model finds: the score from which they are taken. None: they are annotated.

    Raises:
        UserError: a column of the wrong length or type, an index out of range, a value that is not
            finite, an id that occurs twice, no image, or no class.
    """

    image_ids: Ints
    widths: Ints
    heights: Ints
    image: Ints
    boxes: Floats
    labels: Ints
    ignore: NDArray[np.bool_]
    areas: Floats
    ids: Ints
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    sizes: Floats | None = None
    max_detections: int = MAX_DETECTIONS
    clusters: Ints | None = None
    own_score: float | None = None

    def __post_init__(self) -> None:
        where, images, n = "ground truth", len(self.image_ids), len(self.image)
        if self.max_detections < FEWEST_DETECTIONS:
            raise UserError(
                f"at most {self.max_detections} detections; expected {FEWEST_DETECTIONS} or more"
            )
        if not images or not self.classes:
            raise UserError(f"{where}: expected at least one image and one class, got none")
        if len(self.category_ids) != len(self.classes):
            problem = f"{len(self.category_ids)} category ids for {len(self.classes)} classes"
            raise UserError(f"{where}: {problem}")
        for name in ("image_ids", "widths", "heights"):
            check_column(where, name, getattr(self, name), "iu", (images,))
        for name in ("image", "labels", "ids"):
            check_column(where, name, getattr(self, name), "iu", (n,))
        if self.clusters is not None:
            check_column(where, "clusters", self.clusters, "iu", (images,))
        check_column(where, "ignore", self.ignore, "b", (n,))
        check_column(where, "areas", self.areas, "f", (n,))
        check_boxes(where, self.boxes, self.sizes, n)
        check_range(where, "image", self.image, images)
        check_range(where, "label", self.labels, len(self.classes))
        if np.any(self.image[1:] < self.image[:-1]):
            raise UserError(f"{where}: boxes must be sorted by image")
        check_unique(where, "image id", self.image_ids)
        check_unique(where, "annotation id", self.ids)
        check_unique(where, "category id", np.asarray(self.category_ids))
        check_unique(where, "class name", np.asarray(self.classes))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def xywh(self) -> NDArray[np.float64]:
        """(n, 4) x, y, width, height: the source's own numbers where it gave them."""
        return _xywh(self.boxes, self.sizes)

    @classmethod
    def from_coco(cls, dataset: Mapping[str, Any]) -> Self:
        """Read what ``to_coco`` gives, or any such object; order within an image is kept.

        Args:
            dataset: with "images", "annotations" and "categories". Where absent, an annotation's
                "area" is width x height, and an image's "width" and "height" are 0. Images may
                have a "cluster", a number that those that belong together share.

        Raises:
            UserError: a missing or empty part, a missing key, an unknown image or category id, or
                a bad value.
        """
        parts: list[Any] = [
            dataset.get(key) if isinstance(dataset, Mapping) else None
            for key in ("images", "annotations", "categories")
        ]
        if not all(isinstance(part, list) and part for part in parts):
            raise UserError("expected lists of images, annotations and categories, none empty")
        images, annotations, categories = parts
        image_ids = integers(images, "id", "images")
        category_ids = integers(categories, "id", "categories")
        where = "annotations"
        ids = integers(annotations, "id", where)
        of_images = integers(annotations, "image_id", where)
        of_classes = integers(annotations, "category_id", where)
        image = index_of(of_images, image_ids, where, "image id")
        labels = index_of(of_classes, category_ids, where, "category id")
        xywh = numbers(annotations, "bbox", where, (4,))
        whole = [
            {"iscrowd": 0, "area": width * height, **row}
            for row, (_, _, width, height) in zip(annotations, xywh.tolist(), strict=True)
        ]
        areas = numbers(whole, "area", where)
        if (areas < 0).any():
            raise UserError(f"an annotation has the area {areas.min():g}; expected none below 0")
        clustered = any("cluster" in row for row in images)
        sized = [{"width": 0, "height": 0, **row} for row in images]
        order = np.argsort(image, kind="stable")
        return cls(
            image_ids=image_ids,
            widths=integers(sized, "width", "images"),
            heights=integers(sized, "height", "images"),
            image=image[order],
            boxes=_corners(xywh)[order],
            labels=labels[order],
            ignore=integers(whole, "iscrowd", where)[order] == 1,
            areas=areas[order],
            ids=ids[order],
            classes=tuple(str(name) for name in values(categories, "name", "categories")),
            category_ids=tuple(category_ids.tolist()),
            sizes=xywh[order, 2:],
            own_score=_own_score(dataset),
            clusters=integers(images, "cluster", "images") if clustered else None,
        )

    def to_coco(self) -> dict[str, Any]:
        """The object of a COCO instances file: what ``from_coco`` reads, sorted by image."""
        annotations = {
            "id": self.ids.tolist(),
            "image_id": self.image_ids[self.image].tolist(),
            "category_id": np.asarray(self.category_ids)[self.labels].tolist(),
            "bbox": self.xywh.tolist(),
            "area": self.areas.tolist(),
            "iscrowd": self.ignore.astype(int).tolist(),
        }
        images = {
            "id": self.image_ids.tolist(),
            "width": self.widths.tolist(),
            "height": self.heights.tolist(),
            **({} if self.clusters is None else {"cluster": self.clusters.tolist()}),
        }
        own = {} if self.own_score is None else {"own_score": self.own_score}
        return {
            **own,
            "images": _rows(images),
            "annotations": _rows(annotations),
            "categories": _rows({"id": self.category_ids, "name": self.classes}),
        }


@dataclass(frozen=True, eq=False)
class Detections:
    """Scored boxes on the images of a ground truth, in any order of images.

    Where scores tie within an image, the earlier detection goes first.

    Attributes:
        image: (n,) index into the ground truth's ``image_ids``.
        boxes: (n, 4) x1, y1, x2, y2 in pixels, float32 or float64.
        scores: (n,)
        labels: (n,) index into the ground truth's ``classes``.
        sizes: (n, 2) width and height as the source gave them; None where it gave corners.
        queries: (n,) which of the detector's object queries each comes from; None where that is
            not known. No number depends on them.

    Raises:
        UserError: a column of the wrong length or type, a negative index, a value that is not
            finite.
    """

    image: Ints
    boxes: Floats
    scores: Floats
    labels: Ints
    sizes: Floats | None = None
    queries: Ints | None = None

    def __post_init__(self) -> None:
        where, n = "detections", self.image.size
        check_column(where, "image", self.image, "iu", (n,))
        check_column(where, "labels", self.labels, "iu", (n,))
        check_column(where, "scores", self.scores, "f", (n,))
        check_boxes(where, self.boxes, self.sizes, n)
        check_range(where, "image", self.image, None)
        check_range(where, "label", self.labels, None)
        if self.queries is not None:
            check_column(where, "queries", self.queries, "iu", (n,))
            check_range(where, "query", self.queries, None)

    def __len__(self) -> int:
        return len(self.image)

    @property
    def xywh(self) -> NDArray[np.float64]:
        """(n, 4) x, y, width, height: the source's own numbers where it gave them."""
        return _xywh(self.boxes, self.sizes)

    def rows(self, rows: NDArray[Any]) -> "Detections":
        """Some of them, in the order of ``rows``."""
        held = {name: column[rows] for name, column in vars(self).items() if column is not None}
        return replace(self, **held)

    def check_against(self, ground_truth: GroundTruth) -> None:
        """Raise UserError if an index points outside ``ground_truth``."""
        check_range("detections", "image", self.image, len(ground_truth.image_ids))
        check_range("detections", "label", self.labels, len(ground_truth.classes))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All detections of ``parts``, in order. No part at all gives no detections."""
        if not parts:
            none = np.zeros(0, dtype=np.int32)
            return cls(image=none, boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=none)
        exact = any(part.sizes is not None for part in parts)
        queries = [part.queries for part in parts if part.queries is not None]
        return cls(
            image=np.concatenate([part.image for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            sizes=np.concatenate([part.xywh[:, 2:] for part in parts]) if exact else None,
            queries=np.concatenate(queries) if len(queries) == len(parts) else None,
        )

    def to_coco_results(self, ground_truth: GroundTruth) -> list[dict[str, Any]]:
        """The list of a COCO results file, to the last bit where ``sizes`` are there."""
        self.check_against(ground_truth)
        columns = {
            "image_id": ground_truth.image_ids[self.image].tolist(),
            "category_id": np.asarray(ground_truth.category_ids)[self.labels].tolist(),
            "bbox": self.xywh.tolist(),
            "score": self.scores.tolist(),
        }
        return _rows(columns)


def _own_score(dataset: Mapping[str, Any]) -> float | None:
    found = dataset.get("own_score")
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise UserError(f"own_score is {found!r:.60}; expected a score from 0 to 1")
    return float(found)


def _corners(xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _xywh(boxes: Floats, sizes: Floats | None) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2] if sizes is None else sizes
    return np.concatenate([boxes[:, :2], sizes], axis=1)


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
