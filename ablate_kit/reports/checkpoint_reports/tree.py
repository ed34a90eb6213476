"""A checkpoint's names as a tree."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.reports.table import shape_text

if TYPE_CHECKING:
    from pathlib import Path

    from ablate_kit.checkpoints import TensorInfo
    from ablate_kit.checkpoints.stats import Stats


def tree(
    tensors: "Mapping[str, TensorInfo]",
    levels: int | None,
    depth: int = 0,
    stats: "Mapping[str, Stats] | None" = None,
) -> Iterator[str]:
    """One line per node, indented, with the elements and bytes below it; ``levels`` deep.

    Below a node of several types these are named, and where ``stats`` are given, its share of
    zeros and how many of its elements are not finite.
    """
    groups: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        level = name.split(".")[depth]
        groups.setdefault(level, {})[name] = info
    for level, inside in groups.items():
        shown = safe.line(level)
        indent = "  " * depth
        first, *others = inside
        if not others and first.count(".") == depth:
            shape = shape_text(inside[first].shape)
            yield f"{indent}{shown}  {shape} {inside[first].dtype}{_measured(inside, stats)}"
        else:
            types = list(dtype_mix(inside))
            mix = f", {' + '.join(types)}" if len(types) > 1 else ""
            yield f"{indent}{shown}  {sizes(inside)}{mix}{_measured(inside, stats)}"
            if levels is None or depth + 1 < levels:
                yield from tree(inside, levels, depth + 1, stats)


def sizes(tensors: "Mapping[str, TensorInfo]") -> str:
    counts = [info.numel for info in tensors.values()]
    sizes = (info.itemsize for info in tensors.values())
    nbytes = sum(count * size for count, size in zip(counts, sizes, strict=True))
    return f"{sum(counts):,} elements, {nbytes / 1e6:,.2f} MB"


def dtype_mix(tensors: "Mapping[str, TensorInfo]") -> dict[str, float]:
    """The share of the elements that each type has, the most usual first."""
    types = {info.dtype for info in tensors.values()}
    if len(types) == 1:
        return dict.fromkeys(types, 1.0)
    counts: dict[str, int] = {}
    for info in tensors.values():
        counts[info.dtype] = counts.get(info.dtype, 0) + info.numel
    total = sum(counts.values()) or 1
    return {
        dtype: count / total for dtype, count in sorted(counts.items(), key=lambda one: -one[1])
    }


def tied(tensors: "Mapping[str, TensorInfo]") -> list[list[str]]:
    """Groups of names whose tensors have bytes of the file in common."""
    groups: list[list[str]] = []
    if len({info.storage.offset for info in tensors.values()}) == len(tensors):
        return []  # as nearly always
    tensors = {name: info for name, info in tensors.items() if info.numel}
    places: dict[tuple[int, Path], list[tuple[int, str]]] = {}
    for name, info in tensors.items():
        place = (info.storage.offset, info.storage.file)
        places.setdefault(place, []).append((info.offset, name))
    for inside in places.values():
        end = -1
        for offset, name in sorted(inside):
            if offset < end:
                groups[-1].append(name)
            else:
                groups.append([name])
            end = max(end, offset + tensors[name].span)
    return [group for group in groups if len(group) > 1]


def _measured(tensors: "Mapping[str, TensorInfo]", stats: "Mapping[str, Stats] | None") -> str:
    if not stats:
        return ""
    inside = [stats[name] for name in tensors]
    elements = sum(one.elements for one in inside) or 1
    broken = sum(one.nans + one.infinities for one in inside)
    zeros = f", {sum(one.zeros for one in inside) / elements:.1%} zeros"
    return f"{zeros}, {broken:,} not finite" if broken else zeros
