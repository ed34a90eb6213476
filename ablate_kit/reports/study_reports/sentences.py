"""What a study found, in plain sentences; each with its numbers and the rows that it rests on.

No sentence goes beyond its test: what costs and what is free are the verdicts of the table, which
are adjusted for everything that was cut; of classes and interactions, those that are significant.
"""

from collections.abc import Mapping, Sequence

from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import untold
from ablate_kit.plural import counted
from ablate_kit.reports.answer import adjusted_by, drawn_units, too_few_for_ap, unequal_clusters
from ablate_kit.reports.study_reports.findings import NAMED, Findings, Sentence, ranked, stands_out
from ablate_kit.reports.study_reports.open_questions import what_is_undecided, what_was_left_out
from ablate_kit.reports.study_reports.parts_alone import (
    random_controls,
    what_carries,
    what_classes_lose,
    what_is_better_left_out,
    what_is_free,
    what_is_inside,
)
from ablate_kit.reports.study_reports.parts_together import (
    compensation,
    cut_together,
    zero_beside_mean,
)
from ablate_kit.reports.study_reports.titles import title
from ablate_kit.studies.joint import of_all
from ablate_kit.studies.noted import NOT_AFFORDED, NotedPart

# Of all that is free, cut at once: what is said of it after "are free"; of other parts at once.
_TOGETHER = {
    "free": ", alone and together",
    "costs": " alone, not together",
    "gains": " alone; without all of them the detector is better",
}
_OTHERS = {"free": "are free", "costs": "are not free", "gains": "are better left out"}


def sentences(found: Findings) -> list[Sentence]:
    ap = found.results[0].evaluation.overall["AP"]
    images = found.results[0].evaluation.counts["images"]
    if why := untold(ap, found.margin):
        return [
            Sentence(
                f"Nothing can be said of this model's parts: on {counted(images, 'image')} it "
                f"{why}, unmodified, so that no cut can cost anything. ablate predict draws what "
                "it finds; classes are matched by name (--class-names)."
            )
        ]
    told = [
        _in_short(found),
        what_carries(found, ap or 0.0, images),
        *what_is_inside(found),
        zero_beside_mean(found),
        what_is_better_left_out(found),
        what_is_free(found) if found.cut() else None,
        *cut_together(found),
        *compensation(found, ap or 0.0),
        *what_classes_lose(found, ap or 0.0),
        random_controls(found),
        what_is_undecided(found),
        what_was_left_out(found.study),
        _how_to_read(found) if found.cut() else None,
    ]
    return [one for one in told if one is not None]


def _in_short(found: Findings) -> Sentence | None:
    """The conclusion, for who reads nothing else."""
    cut, ap = found.cut(), found.ap()
    if not cut:
        return None
    costs, free = (ranked(cut, ap, outcome) for outcome in ("costs", "free"))
    cost = f"{len(costs)} cost{'s' * (len(costs) == 1)}" if costs else "none is known to cost"
    counts = [f"{cost} more than {found.margin:g} AP"]
    if costs:
        counts[0] += f", {_most(found, _costliest(costs, ap, found.margin), costs)}"
    together, others = "", list[str]()
    for name in [one for one in of_all(found.study.together) if one in ap][-1:]:
        members = found.study.together[name]
        outcome = ap[name].outcome
        if set(members) == {one.variant for one in free}:
            together = _TOGETHER.get(outcome, " alone, together undecided")
        else:  # what is free was not cut at once, or with what is not found free
            says = _OTHERS.get(outcome, "are undecided")
            together = " alone"
            others = [f"cut at once, the {len(members)} that looked free as it ran {says}"]
    named = f" ({', '.join(map(title, free[::-1]))})" if 0 < len(free) <= NAMED else ""
    says = f"{len(free)} {'is' if len(free) == 1 else 'are'} free{together}{named}"
    counts.append(says if free else "none is shown to be free")
    gains = ranked(cut, ap, "gains")
    if gains:
        best = gains[-1]
        most = f", {_most(found, best, gains)}"
        if len(gains) == 1:
            most = f" ({title(best)})"
        counts.append(f"without {len(gains)} the detector is better{most}")
    left = len(cut) - len(costs) - len(free) - len(gains)
    if left:
        counts.append(f"{left} {'is' if left == 1 else 'are'} undecided")
    missing = len({one.variant for one in found.study.parts if one.state == NOT_AFFORDED})
    reached = f", {missing} more not reached" if missing else ""
    return Sentence(
        f"In short: of {counted(len(cut), 'cut')}{reached}, {'; '.join([*counts, *others])}."
    )


def _how_to_read(found: Findings) -> Sentence:
    """What numbers and verdicts are, for who takes them into a text of their own."""
    first, *others = found.results
    unit, _ = drawn_units(first.evaluation)
    notes = too_few_for_ap(first.evaluation), unequal_clusters(first.evaluation)
    few = "".join(f"{one[0].upper()}{one[1:]}. " for one in notes if one)
    tested = sum(not one.is_control for one in others)
    how = adjusted_by(found.compared.statistics.adjust, found.ap().values())
    adjusted = f"{counted(tested, 'cut')} ({how})"
    return Sentence(
        "Changes of AP are against the unmodified model on the same images, each with its own "
        f"95 % interval over {unit}, and are named in their order here; verdicts are at a margin "
        f"of {found.margin:g} AP, adjusted for {adjusted}{_of_what(found, tested)}. "
        f"{few}"
        "All of it is about this checkpoint: for others, such as other seeds, run ablate replicate."
    )


def _of_what(found: Findings, tested: int) -> str:
    """Which cuts these are, where more than those of a part each, which other sentences count."""
    parts, zeros = len(found.cut()), sum(one in found.ap() for one in found.study.zeros)
    more = {"by zero beside the mean": zeros, "of several parts at once": tested - parts - zeros}
    named = ", ".join(f"{count} {what}" for what, count in more.items() if count)
    return f": {parts} of one part each, {named}" if named else ""


def _most(found: Findings, one: NotedPart, among: Sequence[NotedPart]) -> str:
    """That a part changes AP most, of those that it is not inside of, nor they of it."""
    own = _line(found, one)
    others = [
        other.variant
        for other in among
        if other.variant != one.variant
        and one.variant not in _line(found, other)
        and other.variant not in own
    ]
    gains = found.ap()[one.variant].outcome == "gains"
    told = f"most of all {'without ' if gains else ''}{title(one)}"
    if stands_out(found, one.variant, others):
        return told
    return f"{told} here, but others may {'bring' if gains else 'cost'} as much"


def _line(found: Findings, one: NotedPart) -> set[str]:
    """Variants of the parts that one is inside of."""
    line = set[str]()
    while one.parent is not None:
        one = found.study.parts[one.parent]
        line.add(one.variant)
    return line


def _costliest(costs: Sequence[NotedPart], ap: Mapping[str, Change], margin: float) -> NotedPart:
    """Where several cost the same within the margin, as where all is lost, the outermost."""
    most = ap[costs[0].variant].change or 0.0
    alike = [one for one in costs if (ap[one.variant].change or 0.0) <= most + margin]
    return min(alike, key=lambda one: one.depth)
