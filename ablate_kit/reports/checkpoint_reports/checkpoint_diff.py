"""The difference of two checkpoints as text."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ablate_kit import text as safe
from ablate_kit.reports.checkpoint_reports.grouping import grouped
from ablate_kit.reports.table import Table, shape_text

if TYPE_CHECKING:
    from ablate_kit.checkpoints import TensorInfo
    from ablate_kit.checkpoints.compare import Diff, Values


def text(
    diff: "Diff", first: "Mapping[str, TensorInfo]", second: "Mapping[str, TensorInfo]", what: str
) -> str:
    """``what`` names what was compared, such as ``names, shapes and types``."""
    lines: list[str] = []
    lines += _listed("only in the first", diff.first, first)
    lines += _listed("only in the second", diff.second, second)
    if diff.renamed:
        lines.append(f"renamed: {len(diff.renamed)}")
        lines += [f"  {old} -> {new}" for old, new in _renamings(diff.renamed)]
    if diff.layout:
        lines.append(f"of another shape or type: {len(diff.layout)}")
        alike: dict[str, list[str]] = {}  # what one line tells of several is true of each
        for name in diff.layout:
            change = f"{_described(first[name])} -> {_described(second[name])}"
            alike.setdefault(change, []).append(name)
        for change, of_it in alike.items():
            for pattern, names in grouped(of_it).items():
                lines.append(f"  {_counted(pattern, names)}  {change}")
    if diff.changed and not diff.values:
        lines += _listed("of other values", diff.changed, first)
    if diff.values:
        lines.append(f"of other values: {len(diff.values)}")
        lines += [f"  {line}" for line in _values(diff.values).split("\n")]
    have = "tensor has" if len(diff.same) == 1 else "tensors have"
    equal = f"{len(diff.same)} {have} the same {what}"
    if diff.renamed:
        equal += f"; {len(diff.renamed)} more under another name"
    return "\n".join(map(safe.line, [*lines, equal]))


def _listed(title: str, names: Iterable[str], tensors: "Mapping[str, TensorInfo]") -> list[str]:
    groups = grouped(names)
    if not groups:
        return []
    count = sum(map(len, groups.values()))
    return [f"{title}: {count}"] + [
        f"  {_counted(pattern, inside)}  {_described(tensors[inside[0]])}"
        for pattern, inside in groups.items()
    ]


def _counted(pattern: str, names: list[str]) -> str:
    return f"{pattern} ({len(names)} tensors)" if len(names) > 1 else pattern


def _described(info: "TensorInfo") -> str:
    return f"{shape_text(info.shape)} {info.dtype}"


def _renamings(renamed: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs, those that change the same beginning of many names as one."""
    beginnings: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for old, new in renamed.items():
        one, other = old.split("."), new.split(".")
        while len(one) > 1 and len(other) > 1 and one[-1] == other[-1]:
            one.pop()
            other.pop()
        while len(one) > 1 and len(other) > 1 and one[0] == other[0]:
            one, other = one[1:], other[1:]
        beginnings.setdefault((".".join(one), ".".join(other)), []).append((old, new))
    pairs = []
    for (one_, other_), inside in beginnings.items():
        if len(inside) == 1:
            pairs += inside
        else:
            pairs.append((f"{one_} in {len(inside)} names", other_))
    return pairs


def _values(values: "Mapping[str, Values]") -> str:
    rows = []
    for pattern, names in grouped(values).items():
        inside = [values[name] for name in names]
        rows.append(
            (
                pattern,
                str(len(names)),
                f"{_worst(v.largest for v in inside):.4g}",
                f"{_worst(v.relative for v in inside):.4g}",
                f"{min((v.cosine for v in inside if v.cosine == v.cosine), default=math.nan):.6f}",
                f"{sum(v.share for v in inside) / len(inside):.2%}",
            )
        )
    header = ("tensors", "count", "max abs", "rel L2", "cosine", "changed")
    return Table("", header, tuple(rows), ("tensors",)).text()


def _worst(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return math.nan if any(map(math.isnan, found)) else max(found)


def as_json(diff: "Diff") -> dict[str, Any]:
    return {
        "differs": diff.differs,
        "only_first": list(diff.first),
        "only_second": list(diff.second),
        "renamed": dict(diff.renamed),
        "shape_or_dtype": list(diff.layout),
        "changed": list(diff.changed),
        "same": len(diff.same),
        "values": {
            name: {
                "max_abs": safe.finite(v.largest),
                "relative_l2": safe.finite(v.relative),
                "cosine": safe.finite(v.cosine),
                "share_changed": v.share,
            }
            for name, v in diff.values.items()
        },
    }
