"""Several ablations as one: what each says of an element holds, all at once.

An ablation says what some elements become. Joined ablations must agree where they speak of the same
element, or they are refused:

* An edit that two have counts once. That also goes for one that scales or adds noise: joined with
  itself an ablation is what it was.
* Edits that set elements to one and the same value may overlap.
* Any other two must touch different elements. Which elements are drawn at random is not looked at:
  two such edits of one tensor count as overlapping.
* Rows that are taken away unite. What comes from another image must come into different columns, or
  be the very same.

Where it does not matter which of two ablations is applied first, and they share no edit that scales
or adds noise, the join does what one after the other does.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from ablate_kit.ablations.ablation import (
    Ablation,
    Blocks,
    Edit,
    Intervention,
    Region,
    Removed,
    Whole,
)
from ablate_kit.ablations.factors import Factor
from ablate_kit.errors import UserError

Ranges = Sequence[tuple[int, int]]

OF_ONE = ("control_of", "repeat_of", "draw")  # factors that a join of several never has


def joined(*ablations: Ablation) -> Ablation:
    """All of them at once, of the kind ``joined``, with the factors in which they agree.

    Raises ``UserError`` where two of them disagree.
    """
    if not ablations:
        raise UserError("no ablations to join")
    return reduce(_pair, ablations)


def _pair(one: Ablation, other: Ablation) -> Ablation:
    same = one.digest == other.digest
    names = list(dict.fromkeys([*_members(one), *_members(other)]))
    if same and names == _members(one):
        return one
    edits = list(one.edits)
    if not same:
        _refuse(one, other)
        for edit in other.edits:
            _add(edits, edit, len(one.edits))
    return Ablation(
        "+".join(names), "joined", tuple(edits), _live(one, other), _factors(one, other, names)
    )


def _refuse(one: Ablation, other: Ablation) -> None:
    """Raises ``UserError`` where two ablations say different things of one element."""
    for a in one.edits:
        for b in other.edits:
            if a.tensor == b.tensor and _touch(a.region, b.region) and not _agree(a, b):
                raise UserError(
                    f'"{one.name}" and "{other.name}" cannot be joined: they differ in what the '
                    f"same elements of {a.tensor} become"
                )
    for p in one.live:
        for q in other.live:
            if isinstance(p, Removed) or isinstance(q, Removed) or p.tensor != q.tensor or p == q:
                continue
            if _overlap(p.ranges, q.ranges):
                raise UserError(
                    f'"{one.name}" and "{other.name}" cannot be joined: they differ in what comes '
                    f"into the same columns of {p.tensor}"
                )


def _touch(one: Region, other: Region) -> bool:
    """Whether two regions of one tensor may have an element in common."""
    if isinstance(one, Blocks) and isinstance(other, Blocks) and one.axis == other.axis:
        return _overlap(one.ranges, other.ranges)
    return _some(one) and _some(other)


def _some(region: Region) -> bool:
    return not isinstance(region, Blocks) or any(start < stop for start, stop in region.ranges)


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(max(a, c) < min(b, d) for a, b in one for c, d in other)


def _agree(one: Edit, other: Edit) -> bool:
    if _text(one) == _text(other):
        return True
    everywhere = (_text(replace(edit, region=Whole())) for edit in (one, other))
    return _is_value(one) and len(set(everywhere)) == 1


def _is_value(edit: Edit) -> bool:
    """Whether all its elements become one value, whatever they were."""
    return edit.constant and edit.values is None


def _text(edit: Edit) -> str:
    """What an edit does, as text in which 0.0 is not -0.0 and NaN is itself."""
    values = Ablation("", "", (replace(edit, value=float(edit.value)),)).to_dict()
    return json.dumps(values["edits"], sort_keys=True)


def _add(edits: list[Edit], new: Edit, own: int) -> None:
    """Adds to the first ``own`` edits and what is behind them, which comes from where ``new`` does.

    Blocks that become one value are one edit, as if they had been cut together.
    """
    for i in reversed(range(len(edits))):
        edit = edits[i]
        if edit.tensor != new.tensor:
            continue
        a, b = edit.region, new.region
        if i < own and _text(edit) == _text(new):
            return
        alike = i < own and _is_value(edit) and _agree(edit, new)
        if alike and isinstance(a, Blocks) and isinstance(b, Blocks) and a.axis == b.axis:
            both = Blocks(a.axis, _united((*a.ranges, *b.ranges)))
            edits[i] = replace(edit, region=both)
            return
        if _touch(a, b) and not _agree(edit, new):
            break  # of edits of one ablation that disagree the later one counts: it stays so
    edits.append(new)


def _united(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """In order; those that overlap are one, those that touch stay apart as heads do."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return tuple(found)


def _live(one: Ablation, other: Ablation) -> tuple[Intervention, ...]:
    found: list[Intervention] = list(one.live)
    for new in other.live:
        if isinstance(new, Removed):
            at = next((i for i, x in enumerate(found) if _same_table(x, new)), None)
            if at is not None:
                known = found[at]
                rows = sorted({*known.rows, *new.rows}) if isinstance(known, Removed) else ()
                found[at] = Removed(new.tensor, tuple(rows))
                continue
        if new not in found:
            found.append(new)
    return tuple(found)


def _same_table(one: Intervention, other: Removed) -> bool:
    return isinstance(one, Removed) and one.tensor == other.tensor


def _members(one: Ablation) -> list[str]:
    """The names of those that a join was made of, or its own."""
    members = [str(value) for name, value in one.factors.items() if name.startswith("member_")]
    return members or [one.name]


def _factors(one: Ablation, other: Ablation, names: Sequence[str]) -> dict[str, Factor]:
    alike: dict[str, Factor] = {
        name: value
        for name, value in one.factors.items()
        if other.factors.get(name) == value
        and name not in OF_ONE
        and not name.startswith("member_")
    }
    return alike | {f"member_{i}": name for i, name in enumerate(names, start=1)}
