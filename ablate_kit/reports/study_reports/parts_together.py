"""Sentences on cuts beside others of the same parts: all at once, the whole, zero for the mean."""

from collections.abc import Mapping, Sequence

from ablate_kit.metrics.uncertainty.significance import Change, interactions
from ablate_kit.plural import counted
from ablate_kit.reports.answer import RANKED_HERE
from ablate_kit.reports.checkpoint_reports.grouping import grouped
from ablate_kit.reports.study_reports.findings import NAMED, Findings, Sentence, by, interval_of
from ablate_kit.reports.study_reports.titles import title
from ablate_kit.studies.joint import of_all
from ablate_kit.studies.noted import Noted, NotedPart


def cut_together(found: Findings) -> list[Sentence]:
    """Whether parts that are free alone are so at once, all and the most that are."""
    ap = found.ap()
    told = []
    every = {name: members for name, members in found.study.together.items() if name in ap}
    whole = of_all(every)[-1:]  # where there are several, later ones hold what was found free since
    # Of parts of them the most that are free, or the fewest if none are.
    fewer = [
        name
        for name, members in every.items()
        if name not in of_all(every) and whole and set(members) <= set(every[whole[0]])
    ]
    fewer.sort(key=lambda name: len(every[name]))
    free = [name for name in fewer if ap[name].outcome == "free"]
    for number, name in enumerate([*whole, *(free[-1:] or fewer[:1])]):
        change = ap[name]
        count = len(every[name])
        what = f"the {count} of them that cost least alone"
        if not number:
            what = f"{count} parts that looked free alone{_not_all_free(ap, every[name])}"
        outcome = change.outcome
        says = {
            "free": "they are free together, too",
            "costs": "together they are not free",
            "gains": "the detector is better without them",
        }.get(outcome, "whether they are free together is undecided")
        ranked = f"; {RANKED_HERE}" if number else ""
        told.append(Sentence(f"Cut at once, {what}: {says} ({by(change)}){ranked}.", (name,)))
    return told


def _not_all_free(ap: Mapping[str, Change], members: Sequence[str]) -> str:
    """What steers a study are verdicts one by one; those of a report are adjusted for all."""
    free = sum(one in ap and ap[one].outcome == "free" for one in members)
    if free == len(members):
        return ""
    return f" ({free or 'none'} of them {'is' if free < 2 else 'are'} found free)"


def zero_beside_mean(found: Findings) -> Sentence | None:
    """Zero beside the mean, for the parts for which both were cut."""
    ap = found.ap()
    pairs = [
        (one, next(x for x in found.cut() if x.variant == mean))
        for one, mean in found.study.zeros.items()
        if one in ap and any(x.variant == mean for x in found.cut())
    ]
    if not pairs:
        return None
    told = "; ".join(
        f"{title(part)} (mean: AP {ap[part.variant].change:+z.4f}, zero: {by(ap[zero])})"
        for zero, part in pairs
    )
    rows = _beyond(found, [(zero, [part.variant]) for zero, part in pairs])
    differ = [
        title(part)
        for (_, part), row in zip(pairs, rows, strict=True)
        if row is not None and row.significant
    ]
    says = (
        f"The two differ significantly for {', '.join(differ)}: the verdict rests on the mean."
        if differ
        else "Nowhere do the two differ significantly."
    )
    return Sentence(
        f"Of {counted(len(pairs), 'part')} the mean was cut and, beside it, zero: {told}. {says}",
        tuple(x for zero, part in pairs for x in (part.variant, zero)),
    )


def compensation(found: Findings, value: float) -> list[Sentence]:
    """Joint cuts, and parts against what they are made of, compared with the sum of singles."""
    ap = found.ap()
    asked: list[tuple[str, str, list[str]]] = [
        (f"the {len(members)} parts cut at once", name, members)
        for name, members in found.study.together.items()
        if name in ap and all(one in ap for one in members)
    ]
    asked += [
        (_inner(found.study, one), one.variant, one.made_of)
        for one in found.cut()
        if one.made_of and all(x in ap for x in one.made_of)
    ]
    if not asked:
        return []
    told = []
    rows = _beyond(found, [(name, members) for _, name, members in asked])
    for (what, name, members), change in zip(asked, rows, strict=True):
        if change is None or not change.significant or change.change is None:
            continue
        alone = sum(ap[one].change or 0.0 for one in members)
        if change.change > 0 and alone < -value:
            continue  # more than all cannot be lost: that says nothing of the parts
        if change.change < 0:
            text = (
                f"{what[0].upper()}{what[1:]} stand in for each other: together they cost more "
                f"than the sum of what each costs alone (by {interval_of(change)})."
            )
        else:
            text = (
                f"{what[0].upper()}{what[1:]} depend on each other: together they cost less than "
                f"the sum of what each costs alone (by {interval_of(change)})."
            )
        told.append((change.change, Sentence(text, (name, *members))))
    told.sort(key=lambda one: one[0])
    return [one for _, one in told[:NAMED]]


def _inner(study: Noted, whole: NotedPart) -> str:
    """What a part is made of; by name where more lies inside: class heads beside layers, say."""
    told = f"the {len(whole.made_of)} parts of {title(whole)}"
    inside = {
        one.variant
        for one in study.parts
        if one.parent is not None and study.parts[one.parent].variant == whole.variant
    }
    if inside == set(whole.made_of):
        return told
    called = {one.variant: title(one) for one in reversed(study.parts)}
    return f"{told} ({', '.join(grouped(called[x] for x in whole.made_of))})"


def _beyond(found: Findings, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Change | None]:
    """By how much each variant changes AP beyond the sum of what others change it by."""
    compared = found.compared
    if compared.baseline is None:
        return [None] * len(asked)
    pairs = zip(found.results[1:], compared.samples, strict=True)
    by_name = {one.name: samples for one, samples in pairs}
    rows = interactions(
        compared.baseline,
        [by_name[name] for name, _ in asked],
        [[by_name[one] for one in members] for _, members in asked],
        compared.statistics.adjust,
    )
    return [row["AP"] for row in rows]
