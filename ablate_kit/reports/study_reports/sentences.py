"""What a study found, in plain sentences; each with its numbers and the rows that it rests on.

No sentence goes beyond its test: what costs and what is free are the verdicts of the table, which
are adjusted for everything that was cut; of classes and interactions, those that are significant.
"""

from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING
from ablate_kit.reports.study_reports.findings import NAMED, Findings, Sentence, outcome_of, ranked
from ablate_kit.reports.study_reports.left_out import title
from ablate_kit.reports.study_reports.open_questions import what_is_undecided, what_was_left_out
from ablate_kit.reports.study_reports.parts_alone import (
    random_controls,
    what_carries,
    what_classes_lose,
    what_is_free,
    what_is_inside,
)
from ablate_kit.reports.study_reports.parts_together import (
    compensation,
    cut_together,
    zero_beside_mean,
)
from ablate_kit.studies.joint import of_all
from ablate_kit.studies.noted import NOT_AFFORDED


def sentences(found: Findings) -> list[Sentence]:
    ap = found.results[0].evaluation.overall["AP"]
    images = found.results[0].evaluation.counts["images"]
    if ap is None or ap < NEXT_TO_NOTHING:
        value = "undefined" if ap is None else f"{ap:.4f}"
        counted = f"{images} image{'s' * (images != 1)}"
        return [
            Sentence(
                "Nothing can be said of this model's parts: unmodified it finds next to nothing on "
                f"{counted} (AP {value}), so that no cut can cost anything."
            )
        ]
    told = [
        _in_short(found),
        what_carries(found, ap, images),
        *what_is_inside(found),
        zero_beside_mean(found),
        what_is_free(found) if found.cut() else None,
        *cut_together(found),
        *compensation(found, ap),
        *what_classes_lose(found, ap),
        random_controls(found),
        what_is_undecided(found),
        what_was_left_out(found.study),
    ]
    return [one for one in told if one is not None]


def _in_short(found: Findings) -> Sentence | None:
    """The conclusion, for who reads nothing else."""
    cut, ap = found.cut(), found.ap()
    if not cut:
        return None
    costs, free = (ranked(cut, ap, outcome) for outcome in ("costs", "free"))
    cost = f"{len(costs)} cost{'s' * (len(costs) == 1)}" if costs else "none is known to cost"
    counts = [f"{cost} more than {found.study.margin:g} AP"]
    outer = sorted(costs, key=lambda one: one.depth > 0)  # where all is lost, by the whole part
    if costs:
        counts[0] += f", most of all {title(outer[0])}"
    together = ""
    whole = [name for name in of_all(found.study.together) if name in ap][-1:]
    if whole and len(free) > 1:
        together = {"free": ", alone and together", "costs": " alone, not together"}.get(
            outcome_of(ap[whole[0]]), " alone, together undecided"
        )
    named = f" ({', '.join(map(title, free[::-1]))})" if 0 < len(free) <= NAMED else ""
    says = f"{len(free)} {'is' if len(free) == 1 else 'are'} free{together}{named}"
    counts.append(says if free else "none is shown to be free")
    gains = ranked(cut, ap, "gains")
    if gains:
        counts.append(f"without {len(gains)} the detector is better")
    left = len(cut) - len(costs) - len(free) - len(gains)
    if left:
        counts.append(f"{left} {'is' if left == 1 else 'are'} undecided")
    missing = len({one.variant for one in found.study.parts if one.state == NOT_AFFORDED})
    reached = f", {missing} more not reached" if missing else ""
    cuts = f"{len(cut)} cut{'s' * (len(cut) != 1)}"
    return Sentence(f"In short: of {cuts}{reached}, {'; '.join(counts)}.")
