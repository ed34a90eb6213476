"""Detections on disk: the same columns, as npz with their ids or packed as a sweep keeps them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.arrays import read_arrays
from ablate_kit.metrics.column_checks import (
    LARGEST,
    check_column,
    check_range,
    check_unique,
    index_of,
)
from ablate_kit.metrics.detections import Detections, GroundTruth
from detector.disk.atomic import new_stream

Arrays = dict[str, NDArray[Any]]

_NEEDED = ("image", "boxes", "scores", "labels")
_COLUMNS = (*_NEEDED, "sizes", "queries")


def pack(found: Sequence[Detections]) -> Arrays:
    """Several sets of detections as small arrays, exactly: single precision where it loses
    nothing, the smallest type that holds a label or an image."""
    count = np.array([len(one) for one in found], dtype=np.int64)
    columns = _columns_of(Detections.concatenate(found))
    return {"count": count} | {name: _small(column) for name, column in columns.items()}


def unpack(arrays: Arrays) -> list[Detections]:
    bounds = np.cumsum(arrays["count"])[:-1]
    names = [name for name in _COLUMNS if name in _NEEDED or name in arrays]
    columns = [np.split(_wide(arrays[name]), bounds) for name in names]
    return [Detections(**dict(zip(names, one, strict=True))) for one in zip(*columns, strict=True)]


def save_npz(path: Path, found: Detections, truth: GroundTruth) -> None:
    """Write the columns, with the ids that their indices stand for."""
    found.check_against(truth)
    category_ids = np.asarray(truth.category_ids, dtype=np.int64)
    ids: Arrays = {"image_ids": truth.image_ids, "category_ids": category_ids}
    with new_stream(path, overwrite=True) as file:  # a name without .npz stays as it is
        np.savez(file, allow_pickle=False, **ids, **_columns_of(found))


def load_npz(path: Path, truth: GroundTruth) -> Detections:
    """Read what ``save_npz`` wrote, for this or another order of images and classes.

    Raises:
        UserError: not such a file, or detections on images or classes that ``truth`` does not have.
    """
    where, columns = str(path), read_arrays(path)
    for name in ("image_ids", "category_ids", *_NEEDED):
        if name not in columns:
            raise UserError(f'{where}: has no array "{name}", so it holds no detections')
    for name, what in (("image_ids", "image id"), ("category_ids", "category id")):
        check_column(where, name, columns[name], "iu", (columns[name].size,))
        check_unique(where, what, columns[name])
    stored = Detections(**{one: _single(columns[one]) for one in _COLUMNS if one in columns})
    corners_and_sizes = np.concatenate([stored.boxes, stored.xywh[:, 2:]], axis=1)
    broken = np.flatnonzero((np.abs(corners_and_sizes) >= LARGEST).any(axis=1))
    if len(broken):
        found = stored.boxes[broken[0]].tolist()
        raise UserError(f"{where}[{broken[0]}]: the box {found} is not four numbers of pixels")
    check_range(where, "image", stored.image, len(columns["image_ids"]))
    check_range(where, "label", stored.labels, len(columns["category_ids"]))
    image_ids = columns["image_ids"][stored.image]
    category_ids = columns["category_ids"][stored.labels]
    known = np.asarray(truth.category_ids, dtype=np.int64)
    image = index_of(image_ids, truth.image_ids, where, "image id")
    labels = index_of(category_ids, known, where, "category id")
    return replace(stored, image=image.astype(np.int32), labels=labels.astype(np.int32))


def _columns_of(found: Detections) -> Arrays:
    return {name: column for name in _COLUMNS if (column := getattr(found, name)) is not None}


def _small(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return values.astype(np.min_scalar_type(int(values.max(initial=0))))
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return single if (single == values).all() else values.astype(np.float64)


def _single(values: NDArray[Any]) -> NDArray[Any]:
    """Floats of single or double precision, as all that is computed from them."""
    odd = values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8)
    return _wide(values) if odd else values


def _wide(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
