"""What dumps are scored against: a COCO annotation file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.errors import UserError
from ablate_kit.metrics.columns import section
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.dumps.files import read_json
from ablate_kit.metrics.dumps.image_names import ImageNames


@dataclass(frozen=True, eq=False)
class Annotated:
    """A ground truth, and the names that text dumps know its images by.

    Attributes:
        truth: the annotated boxes.
        names: from file names to indices into ``truth.image_ids``.
        difficult: how many objects were marked as difficult, before any were dropped.
    """

    truth: GroundTruth
    names: ImageNames
    difficult: int = 0


def read_annotations(path: Path, difficult: str = "ignore") -> Annotated:
    """A COCO annotation file, plain or gzipped; categories by ascending id.

    Args:
        difficult: what becomes of annotations with a true "difficult": ``ignore`` makes them
            regions that are neither to be found nor counted against a detection, ``keep`` ordinary
            objects, ``drop`` leaves them out.

    Raises:
        UserError: not such a file; it is named.
    """
    if difficult not in ("ignore", "keep", "drop"):
        raise UserError(f'--difficult is "{difficult}"; expected ignore, keep or drop')
    dataset = read_json(path)
    try:
        annotations = section(dataset, "annotations")
        marked = [isinstance(row, Mapping) and bool(row.get("difficult")) for row in annotations]
        if difficult == "drop":
            kept = [row for row, mark in zip(annotations, marked, strict=True) if not mark]
            dataset = {**dataset, "annotations": kept}
        keys = ("iscrowd", "difficult") if difficult == "ignore" else ("iscrowd",)
        categories = section(dataset, "categories")
        by_id = sorted(categories, key=lambda row: _id(row))
        truth = GroundTruth.from_coco({**dataset, "categories": by_id}, ignore_keys=keys)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    files = [str(row.get("file_name", "")) for row in dataset["images"]]
    return Annotated(truth, stems(files), sum(marked))


def stems(files: Sequence[str]) -> ImageNames:
    """Where the images of these file names are."""
    return ImageNames.of(files)


def _id(row: object) -> int:
    number = row.get("id") if isinstance(row, Mapping) else None
    return number if isinstance(number, int) else -1  # from_coco says what is wrong with it
