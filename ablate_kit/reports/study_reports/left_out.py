"""What a budget did not reach, in words: so many of a kind within each top-level part."""

import shlex
from collections import Counter

from ablate_kit.plural import counted
from ablate_kit.reports.study_reports.titles import title
from ablate_kit.studies.noted import INSIDE_FREE, NOT_AFFORDED, Noted

NAMED = 4  # parts that are named, where so few are left
_KINDS = {
    "attention": ("attention module", "attention modules"),
    "feed-forward": ("feed-forward branch", "feed-forward branches"),
    "queries": ("table of queries", "tables of queries"),
    "level": ("pyramid level", "pyramid levels"),
    "tensor": ("tensor", "tensors"),
    "head": ("head", "heads"),
    "layer": ("layer", "layers"),
    "block": ("block", "blocks"),
}
_OTHER = ("other part", "other parts")  # groups and modules


def left_out(study: Noted) -> str:
    """A sentence; empty where everything was reached."""
    known = {one.variant for one in study.parts if one.state not in (NOT_AFFORDED, INSIDE_FREE)}
    missing = {
        one.variant: number
        for number, one in reversed(list(enumerate(study.parts)))
        if one.state == NOT_AFFORDED and one.variant not in known
    }
    if not missing:
        return ""
    numbers = sorted(missing.values())
    some = f" on {study.images:,} of {study.total:,} images" if study.images < study.total else ""
    inside = sum(one.state == INSIDE_FREE for one in study.parts)
    free = f"; {inside} more lie inside of parts that looked free" if inside else ""
    enough = ""
    if study.needed:
        # Time is not known beforehand: the machine may be busier the next time.
        most = "At most" if "pass" in study.needed else "At this run's speed, about"
        enough = (
            f" {most} {study.needed} would be enough for all: the same command with --budget "
            f"{shlex.quote(study.needed)} goes on from here."
        )
    return (
        f"The budget of {study.budget}{some} did not reach {counted(len(numbers), 'cut')}: "
        f"{_named(study, numbers)}{free}.{enough}"
    )


def _named(study: Noted, numbers: list[int]) -> str:
    parts = study.parts
    if len(numbers) <= NAMED:
        return ", ".join(title(parts[i]) for i in numbers)
    top = Counter(_top(study, i) for i in numbers)
    told = []
    for name in top:
        counts = Counter(
            _KINDS.get(parts[i].kind, _OTHER) for i in numbers if _top(study, i) == name
        )
        order = sorted(counts, key=lambda kind: (kind == _OTHER, -counts[kind]))
        kinds = [f"{counts[kind]} {kind[counts[kind] > 1]}" for kind in order]
        what = " and ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]
        told.append(f"{what} of {name}" if name else f"{what} at the top")
    return "; ".join(told)


def _top(study: Noted, number: int) -> str:
    """The top-level part that one is inside of; empty for one of these."""
    one = study.parts[number]
    if one.parent is None:
        return ""
    while one.parent is not None:
        one = study.parts[one.parent]
    return one.part
