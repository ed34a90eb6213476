"""What the parts of a study are called wherever a person reads of them."""

from pathlib import Path

from ablate_kit.studies.joint import control_name, of_all
from ablate_kit.studies.noted import Noted, NotedPart, noted

_HOW = {"zero": "set to zero"}  # in words; "removed" and "mean" stand for themselves


def title(one: NotedPart) -> str:
    return one.part if one.head is None else f"{one.part} head {one.head}"


def how(one: NotedPart) -> str:
    return _HOW.get(one.how, one.how)


def titles_in(run: Path) -> dict[str, str]:
    """The same of a run's folder; nothing of a run that is no study."""
    study = noted(run)
    return titles(study) if study else {}


def titles(study: Noted) -> dict[str, str]:
    """Of each variant that cuts a part: the part and how it is cut; of several parts whose cuts are
    alike, the outer. Of the others what they stand beside, or how many parts they cut at once."""
    found: dict[str, str] = {}
    parts: dict[str, NotedPart] = {}
    for one in study.parts:
        found.setdefault(one.variant, f"{title(one)} ({how(one)})")
        parts.setdefault(one.variant, one)
    for zero, mean in study.zeros.items():
        if mean in parts:
            found.setdefault(zero, f"{title(parts[mean])} ({_HOW['zero']})")
    for head in study.controls:
        if head in parts:
            found.setdefault(control_name(head), f"{title(parts[head])} (random control)")
    whole = of_all(study.together)
    for name, members in study.together.items():
        least = "" if name in whole else " and cost least"
        found.setdefault(name, f"{len(members)} parts that looked free{least}, at once")
    return found
