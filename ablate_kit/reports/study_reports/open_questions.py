"""Sentences on what a study leaves open: what is undecided, and what was not reached."""

from collections.abc import Sequence

from ablate_kit.metrics.uncertainty.verdict import Verdict
from ablate_kit.plural import counted, roughly
from ablate_kit.reports.answer import drawn_units
from ablate_kit.reports.study_reports.findings import Findings, Sentence
from ablate_kit.reports.study_reports.left_out import left_out
from ablate_kit.studies.noted import Noted


def what_is_undecided(found: Findings) -> Sentence | None:
    """How many cuts are, and how many images would decide them."""
    ap = found.ap()
    left = [one for one in found.cut() if ap[one.variant].outcome == "undecided"]
    if not left:
        return None
    verdicts: list[Verdict] = [v for one in left if (v := ap[one.variant].verdict) is not None]
    needed = [one.more for one in verdicts if one.more is not None]
    close = sum(one.more is None and one.p is not None for one in verdicts)
    cuts = counted(len(found.cut()), "cut")
    told = f"{len(left)} of {cuts} {'is' if len(left) == 1 else 'are'} undecided"
    if needed:
        told += _would_decide(found, needed, len(left))
    if close:
        lie = f"; {close} {'lies' if close == 1 else 'lie'}" if close < len(left) else ","
        unit, _ = drawn_units(found.results[0].evaluation)
        told += f"{lie} too close to the margin for more {unit} to help"
    return Sentence(f"{told}.", tuple(one.variant for one in left))


def _would_decide(found: Findings, needed: Sequence[int], undecided: int) -> str:
    """Which of them images would decide that there are, and which none would.

    Of clusters nothing says how many are among the images that were not used.
    """
    unit, _ = drawn_units(found.results[0].evaluation)
    if unit != "images":
        which, enough = _which(len(needed), undecided), roughly(max(needed))
        return f"; about {enough:,} more {unit} would decide {which}, if they are what they seem"
    study = found.study
    there = study.total - study.images
    some = [one for one in needed if one <= there]
    beyond = [one for one in needed if one > there]
    told = ""
    if some:
        which = _which(len(some), undecided)
        enough = min(roughly(max(some)), there)
        told = (
            f"; about {enough:,} more images, of {there:,} that were not used, would "
            f"decide {which}, if they are what they seem: a larger budget in a new folder"
        )
    if beyond:
        which = _which(len(beyond), undecided)
        told += (
            f"; these {study.total:,} images cannot decide {which}: that would take about "
            f"{roughly(study.images + max(beyond)):,}, if they are what they seem"
        )
    return told


def _which(count: int, of: int) -> str:
    if count < of:
        return f"{count} of them"
    return "it" if of == 1 else "them"


def what_was_left_out(study: Noted) -> Sentence | None:
    """What the budget did not reach."""
    told = left_out(study)
    return Sentence(told) if told else None
