"""The options that name a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ablate_kit.cli.output import warn
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from detector.data.dataset import Dataset
    from detector.data.fields import Difficult


def open_dataset(
    annotations: Path | None,
    images: Path | None,
    voc: Path | None,
    split: str | None,
    difficult: str | None,
    shapes: bool,
    count: int | None,
) -> "Dataset":
    """The data set that a command's options name, or its first ``count`` images."""
    from detector.data.coco import Coco
    from detector.data.dataset import limit
    from detector.data.voc import Voc
    from detector.training.recipe import ShapesData

    if sum((annotations is not None, voc is not None, shapes)) != 1:
        raise UserError(
            "give one data set: --annotations with --images, --voc with --split, or --shapes"
        )
    if (annotations is None) != (images is None):
        raise UserError("--annotations and --images go together")
    if (voc is None) != (split is None):
        raise UserError("--voc and --split go together, such as --voc VOCdevkit --split 2007:test")
    if shapes and difficult is not None:
        raise UserError("--difficult has no effect on --shapes, which has no difficult objects")
    treated = cast("Difficult", difficult or "ignore")
    dataset: Dataset
    if annotations and images:
        dataset = Coco(annotations, images, difficult=treated)
        warn(dataset.notes)
    elif voc and split:
        dataset = Voc(voc, split, difficult=treated)
    else:
        _, dataset = ShapesData(kind="shapes").datasets()
    return limit(dataset, count) if count else dataset
