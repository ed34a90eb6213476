"""The edits of two ablations as those of one: what each says of an element holds, all at once.

An ablation says what some elements become. Joined ablations must agree where they speak of the same
element, or they are refused:

* An edit that two have counts once. That also goes for one that scales or adds noise: joined with
  itself an ablation is what it was.
* Edits that set elements to one and the same value may overlap.
* What several add to one tensor, as the means of an attention module's heads to the bias of its
  output projection, is added up.
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

from ablate_kit.ablations.edits import Blocks, Edit, Intervention, Region, Removed, Whole

Ranges = Sequence[tuple[int, int]]


def disagreement(one: Sequence[Edit], other: Sequence[Edit]) -> str:
    """Of which elements two ablations' edits say different things, in words; empty if of none."""
    for a in one:
        for b in other:
            if a.tensor == b.tensor and _touch(a.region, b.region) and not _agree(a, b):
                return f"what the same elements of {a.tensor} become"
    return ""


def live_disagreement(one: Sequence[Intervention], other: Sequence[Intervention]) -> str:
    """The same of what only a running model undergoes."""
    for p in one:
        for q in other:
            if isinstance(p, Removed) or isinstance(q, Removed) or p.tensor != q.tensor or p == q:
                continue
            if _overlap(p.ranges, q.ranges):
                return f"what comes into the same columns of {p.tensor}"
    return ""


def united(one: Sequence[Edit], other: Sequence[Edit]) -> tuple[Edit, ...]:
    """The edits of both, which agree."""
    edits = list(one)
    for edit in other:
        _add(edits, edit, len(one))
    return tuple(edits)


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
    if one.added and other.added:
        return one.added.held == other.added.held
    everywhere = (_text(replace(edit, region=Whole())) for edit in (one, other))
    return _is_value(one) and len(set(everywhere)) == 1


def _is_value(edit: Edit) -> bool:
    """Whether all its elements become one value, whatever they were."""
    return edit.constant and edit.values is None


def _text(edit: Edit) -> str:
    """What an edit does, as text in which 0.0 is not -0.0 and NaN is itself."""
    return json.dumps(replace(edit, value=float(edit.value)).to_dict(), sort_keys=True)


def _add(edits: list[Edit], new: Edit, own: int) -> None:
    """Adds to the first ``own`` edits and what is behind them, which comes from where ``new`` does.

    Blocks that become one value are one edit, as if they had been cut together.
    """
    for i in reversed(range(len(edits))):
        edit = edits[i]
        if edit.tensor != new.tensor:
            continue
        a, b = edit.region, new.region
        if i < own and edit.added and new.added:
            both_added = edit.added | new.added
            edits[i] = replace(edit, values=both_added.values(), added=both_added)
            return
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


def live_united(
    first: Sequence[Intervention], second: Sequence[Intervention]
) -> tuple[Intervention, ...]:
    """The same of what only a running model undergoes: rows that are taken away unite."""
    found = list(first)
    for new in second:
        for i, one in enumerate(found):
            if isinstance(one, Removed) and isinstance(new, Removed) and one.tensor == new.tensor:
                found[i] = Removed(new.tensor, tuple(sorted({*one.rows, *new.rows})))
                break
        else:
            if new not in found:
                found.append(new)
    return tuple(found)
