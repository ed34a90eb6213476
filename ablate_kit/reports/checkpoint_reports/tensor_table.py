"""The tensors of a checkpoint as a table, and one as JSON."""

from collections.abc import Mapping
from functools import lru_cache
from math import isnan, prod
from typing import TYPE_CHECKING

from ablate_kit.reports.table import Table, shape_text
from ablate_kit.text import finite

if TYPE_CHECKING:
    from ablate_kit.checkpoints import TensorInfo
    from ablate_kit.checkpoints.stats import Stats  # which needs NumPy


def tensor_json(name: str, info: "TensorInfo", stats: "Stats | None") -> dict[str, object]:
    row: dict[str, object] = {
        "name": name,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "elements": info.numel,
        "bytes": info.nbytes,
    }
    if stats:
        numbers = {"mean": stats.mean, "std": stats.std, "min": stats.least, "max": stats.most}
        row |= {"zeros": stats.zeros, "nan": stats.nans, "inf": stats.infinities}
        row |= {key: finite(number) for key, number in numbers.items()}
    return row


def tensor_table(tensors: "Mapping[str, TensorInfo]", stats: "Mapping[str, Stats]") -> str:
    header: tuple[str, ...] = ("tensor", "shape", "dtype", "elements")
    if stats:
        header += ("mean", "std", "min", "max", "zeros", "NaN, inf")
    rows = tuple(
        (name, *_size(info.shape, info.dtype), *(_numbers(stats[name]) if stats else ()))
        for name, info in tensors.items()
    )
    return Table("", header, rows, ("tensor", "dtype")).text()


@lru_cache(maxsize=256)  # a model has few shapes
def _size(shape: tuple[int, ...], dtype: str) -> tuple[str, str, str]:
    return shape_text(shape), dtype, f"{prod(shape):,}"


def _numbers(one: "Stats") -> tuple[str, ...]:
    moments = (one.mean, one.std, one.least, one.most)
    zeros = f"{one.zeros / one.elements:.1%}" if one.elements else ""
    return (
        *("" if isnan(number) else f"{number:.4g}" for number in moments),
        zeros,
        f"{one.nans + one.infinities:,}",
    )
