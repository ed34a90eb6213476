"""A dump in any of the formats that are told apart by what is there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.coco_json import read_coco_json
from ablate_kit.metrics.detection_files.convention_checks import check_convention, remarks, usable
from ablate_kit.metrics.detection_files.pickled_results import read_pickled
from ablate_kit.metrics.detection_files.raw_rows import Raw
from ablate_kit.metrics.detection_files.text_folders import is_devkit, read_devkit, read_yolo, texts
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.stored import load_npz
from detector.disk.visible import visible


def read_dump(
    path: Path,
    against: AnnotatedImages,
    *,
    boxes: str | None = None,
    class_names: Sequence[str] | None = None,
    skip_bad: bool = False,
    unpickle: Callable[[Path], Any] | None = None,
) -> tuple[Detections, tuple[str, ...]]:
    """The detections of a file or folder, and what is worth saying of them.

    A COCO results file (``.json``, ``.json.gz``), an ``.npz`` of this project, a folder of the VOC
    devkit's ``comp4_det_test_<class>.txt``, a folder of YOLO's text files, one per image, or a
    pickle of MMDetection or Detectron2.

    Args:
        boxes: ``xywh`` or ``xyxy``, of a COCO results file; None takes them for xywh, and refuses
            those that look like something else.
        class_names: the names of YOLO's class numbers, if not those of the ground truth in order.
        unpickle: reads a pickle, or a file of torch, as plain values with arrays; None: such files
            are refused.
        skip_bad: leave out rows that cannot be scored, and say how many, instead of refusing.

    Raises:
        UserError: no dump, a broken one, or one of other images or classes.
    """
    if boxes not in (None, "xywh", "xyxy"):
        raise UserError(f'--boxes is "{boxes}"; expected xywh or xyxy')
    if path.is_file() and path.suffix == ".npz":
        if boxes is not None:
            raise UserError(f"{path}: --boxes goes with a JSON file; .npz has one form")
        found = load_npz(path, against.truth)
        return found, tuple(f"{path}: {note}" for note in remarks(found, against.truth))
    raw = _read(path, against, boxes, class_names, unpickle)
    keep, notes = usable(raw, against.truth, skip_bad=skip_bad)
    if not keep.all():
        raw = raw.only(np.flatnonzero(keep))
    if boxes != "xywh":
        check_convention(raw, against.truth)
    found = _detections(raw)
    return found, (
        *raw.notes,
        *notes,
        *(f"{path}: {note}" for note in remarks(found, against.truth)),
    )


def uses_class_names(path: Path) -> bool:
    """Whether the classes of a dump are numbers that count names."""
    return _binary(path) == "pickle" or (path.is_dir() and not is_devkit(path))


def _binary(path: Path) -> str | None:
    """What a file that is no text is; None for text, and for what cannot be read, or read twice."""
    if not path.is_file():  # what is read of a pipe is gone
        return None
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return None
    if head[4:] == b"\0\0\0\0{":
        return "safetensors"
    zipped = head[:4] == b"PK\x03\x04" and path.suffix != ".npz"
    return "pickle" if zipped or head[:1] == b"\x80" else None


def _read(
    path: Path,
    against: AnnotatedImages,
    boxes: str | None,
    class_names: Sequence[str] | None,
    unpickle: Callable[[Path], Any] | None,
) -> Raw:
    kind = _binary(path)
    if kind == "safetensors":
        raise UserError(f"{path}: this is a checkpoint; 'ablate eval' evaluates those")
    if kind == "pickle" and unpickle:
        if boxes is not None:
            raise UserError(f"{path}: --boxes goes with a JSON file; pickles have one form")
        return read_pickled(path, unpickle(path), against, class_names)
    if not path.is_dir():
        return read_coco_json(path, against, has_sizes=boxes != "xyxy")
    if boxes is not None:
        raise UserError(f"{path}: --boxes goes with a JSON file; text files have one form")
    if not texts(path):
        raise UserError(f"{path}: {_instead(path)}")
    return read_devkit(path, against) if is_devkit(path) else read_yolo(path, against, class_names)


def _instead(folder: Path) -> str:
    """What is in a folder that has no text files of detections."""
    inside = [one.name for one in sorted(folder.iterdir()) if one.is_dir() and texts(one)]
    if inside:
        hint = f"{inside[0]}/ in it has text files; give {folder / inside[0]}"
        return f"no text files in this folder, but {hint}"
    if any(one.suffix in (".safetensors", ".bin", ".pth") for one in folder.iterdir()):
        return "this is the folder of a checkpoint; 'ablate eval' evaluates those"
    results = visible(folder, "*.json") + visible(folder, "*.npz")
    if results:
        return f"no text files in this folder, but a file of results may be; give {results[0]}"
    return (
        "no text files in this folder; expected comp4_det_test_<class>.txt (VOC) or a file per "
        "image (YOLO)"
    )


def _detections(raw: Raw) -> Detections:
    corners = raw.boxes
    if raw.has_sizes:
        corners = np.concatenate([raw.boxes[:, :2], raw.boxes[:, :2] + raw.boxes[:, 2:]], axis=1)
    return Detections(
        image=raw.image.astype(np.int32),
        boxes=corners,
        scores=raw.scores,
        labels=raw.labels.astype(np.int32),
        sizes=np.ascontiguousarray(raw.boxes[:, 2:]) if raw.has_sizes else None,
    )
