"""A checkpoint's names as a tree."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate_kit.checkpoints import TensorInfo


def tree(
    tensors: "Mapping[str, TensorInfo]", levels: int | None = None, depth: int = 0
) -> Iterator[str]:
    """One line per node, indented, with the elements and bytes below it; ``levels`` deep."""
    groups: dict[str, dict[str, TensorInfo]] = {}
    for name, info in tensors.items():
        level = name.split(".")[depth]
        groups.setdefault(level, {})[name] = info
    for level, inside in groups.items():
        indent = "  " * depth
        first, *others = inside
        if not others and first.count(".") == depth:
            shape = "x".join(map(str, inside[first].shape)) or "scalar"
            yield f"{indent}{level}  {shape} {inside[first].dtype}"
        else:
            yield f"{indent}{level}  {sizes(inside)}"
            if levels is None or depth + 1 < levels:
                yield from tree(inside, levels, depth + 1)


def sizes(tensors: "Mapping[str, TensorInfo]") -> str:
    elements = sum(info.numel for info in tensors.values())
    megabytes = sum(info.nbytes for info in tensors.values()) / 1e6
    return f"{elements:,} elements, {megabytes:,.2f} MB"
