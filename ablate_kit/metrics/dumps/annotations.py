"""What dumps are scored against: a COCO annotation file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ablate_kit.errors import UserError
from ablate_kit.metrics.columns import section
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.dumps.files import read_json


@dataclass(frozen=True, eq=False)
class Annotated:
    """A ground truth, and the names that text dumps know its images by.

    Attributes:
        truth: the annotated boxes.
        names: file name without folder and suffix, to index into ``truth.image_ids``; without the
            names that several images share.
        difficult: how many objects were marked as difficult, before any were dropped.
    """

    truth: GroundTruth
    names: Mapping[str, int]
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


def stems(files: list[str]) -> dict[str, int]:
    """Position of each name without folder and suffix; ambiguous ones are left out."""
    found: dict[str, int] = {}
    twice = set()
    for index, file in enumerate(files):
        stem = PurePosixPath(file.replace("\\", "/")).stem
        if stem in found:
            twice.add(stem)
        found[stem] = index
    return {stem: index for stem, index in found.items() if stem and stem not in twice}


def _id(row: object) -> int:
    number = row.get("id") if isinstance(row, Mapping) else None
    return number if isinstance(number, int) else -1  # from_coco says what is wrong with it
