"""What a study found, in plain sentences; each with its numbers and the rows that it rests on.

No sentence goes beyond its test: what costs and what is free are the verdicts of the table, which
are adjusted for everything that was cut; of classes and interactions, those that are significant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import Change, interactions
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING, Verdict, roughly
from ablate_kit.reports.answer import without_labels
from ablate_kit.reports.study_reports.left_out import left_out, title
from ablate_kit.studies.joint import of_all
from ablate_kit.studies.noted import NOT_AFFORDED, Noted, NotedPart

NAMED = 4  # parts that one sentence names
HOW = {"zero": "set to zero"}  # in words; "removed" and "mean" stand for themselves
ALIVE = 0.1  # share of the AP that must be left for the losses of classes to say something


@dataclass(frozen=True)
class Sentence:
    """What is said, and the variants whose rows say so."""

    text: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """A study, its results (of the unmodified model, then of each variant), and their changes."""

    study: Noted
    results: Sequence[Result]
    compared: Comparison

    def ap(self) -> dict[str, Change]:
        """The change of AP of each variant, by name."""
        pairs = zip(self.results[1:], self.compared.changes, strict=True)
        return {result.name: change["AP"] for result, change in pairs}

    def cut(self) -> list[NotedPart]:
        """The parts that were cut, one for each variant: where several are cut alike, the outer."""
        known = self.ap()
        found: dict[str, NotedPart] = {}
        for one in self.study.parts:
            if one.variant in known:
                found.setdefault(one.variant, one)
        return list(found.values())


def sentences(found: Findings) -> list[Sentence]:
    ap = found.results[0].evaluation.overall["AP"]
    images = found.results[0].evaluation.counts["images"]
    if ap is None or ap < NEXT_TO_NOTHING:
        value = "undefined" if ap is None else f"{ap:.4f}"
        return [
            Sentence(
                "Nothing can be said of this model's parts: unmodified it finds next to nothing on "
                f"{images} images (AP {value}), so that no cut can cost anything."
            )
        ]
    told = [
        _in_short(found),
        _carries(found, ap, images),
        *_inside(found),
        _zeros(found),
        _free(found) if found.cut() else None,
        *_together(found),
        *_compensation(found, ap),
        *_classes(found, ap),
        _controls(found),
        _undecided(found),
        _left_out(found.study),
    ]
    return [one for one in told if one is not None]


def _in_short(found: Findings) -> Sentence | None:
    """The conclusion, for who reads nothing else."""
    cut, ap = found.cut(), found.ap()
    if not cut:
        return None
    costs, free = (_ranked(cut, ap, outcome) for outcome in ("costs", "free"))
    cost = f"{len(costs)} cost{'s' * (len(costs) == 1)}" if costs else "none is known to cost"
    counts = [f"{cost} more than {found.study.margin:g} AP"]
    outer = sorted(costs, key=lambda one: one.depth > 0)  # where all is lost, by the whole part
    if costs:
        counts[0] += f", most of all {title(outer[0])}"
    together = ""
    whole = [name for name in of_all(found.study.together) if name in ap][-1:]
    if whole and len(free) > 1:
        together = {"free": ", alone and together", "costs": " alone, not together"}.get(
            _outcome(ap[whole[0]]), " alone, together undecided"
        )
    named = f" ({', '.join(map(title, free[::-1]))})" if 0 < len(free) <= NAMED else ""
    says = f"{len(free)} {'is' if len(free) == 1 else 'are'} free{together}{named}"
    counts.append(says if free else "none is shown to be free")
    gains = _ranked(cut, ap, "gains")
    if gains:
        counts.append(f"without {len(gains)} the detector is better")
    left = len(cut) - len(costs) - len(free) - len(gains)
    if left:
        counts.append(f"{left} {'is' if left == 1 else 'are'} undecided")
    missing = len({one.variant for one in found.study.parts if one.state == NOT_AFFORDED})
    reached = f", {missing} more not reached" if missing else ""
    return Sentence(f"In short: of {len(cut)} cuts{reached}, {'; '.join(counts)}.")


def _with(one: NotedPart, change: Change) -> str:
    return f"{title(one)} ({_how(one)}: {_by(change)})"


def _how(one: NotedPart) -> str:
    return HOW.get(one.how, one.how)


def _by(change: Change) -> str:
    told = f"AP {change.change:+z.4f}"
    if change.low is None or change.high is None:
        return told
    return f"{told}, {change.low:+z.4f} to {change.high:+z.4f}"


def _outcome(change: Change) -> str:
    return change.verdict.outcome if change.verdict else ""


def _ranked(parts: Iterable[NotedPart], ap: Mapping[str, Change], outcome: str) -> list[NotedPart]:
    chosen = [one for one in parts if _outcome(ap[one.variant]) == outcome]
    return sorted(chosen, key=lambda one: ap[one.variant].change or 0.0)


def _carries(found: Findings, value: float, images: int) -> Sentence:
    ap = found.ap()
    top = [one for one in found.cut() if one.depth == 0]
    if not top:
        return Sentence(
            f"Nothing was cut: a budget of {found.study.budget} is not enough for one of its "
            f"{sum(one.depth == 0 for one in found.study.parts)} top-level parts."
        )
    costs = _ranked(top, ap, "costs")
    start = f"Unmodified, the detector has an AP of {value:.4f} on {images} images."
    if without_labels(found.results):
        start = (
            f"On {images} images without labels, every AP is a distance from the unmodified model, "
            "whose own boxes stand for objects."
        )
    total = len({one.variant for one in found.study.parts if one.depth == 0})
    parts, these = f"its {total} top-level parts", ""
    if len(top) < total:
        parts, these = f"the {len(top)} that were cut", f" of {parts}"
    if not costs:
        return Sentence(
            f"{start} None of {parts}{these} is known to cost more than {found.study.margin:g} AP.",
            tuple(one.variant for one in top),
        )
    named = "; ".join(_with(one, ap[one.variant]) for one in costs[:NAMED])
    count = "All" if len(costs) == len(top) else str(len(costs))
    verb = "costs" if count == "1" else "cost"
    return Sentence(
        f"{start} {count} of {parts}{these} {verb} more than {found.study.margin:g} AP, most of "
        f"all {named}.",
        tuple(one.variant for one in costs),
    )


def _inside(found: Findings) -> list[Sentence]:
    """What costs most of what was looked into, for parts and for heads."""
    ap = found.ap()
    told = []
    nouns = (
        ("part inside of these", "parts inside of these", False),
        ("attention head", "attention heads", True),
    )
    for one_of_them, many, heads in nouns:
        parts = [one for one in found.cut() if one.depth and (one.head is not None) == heads]
        costs = _ranked(parts, ap, "costs")
        if not parts:
            continue
        noun = one_of_them if len(parts) == 1 else many
        were = "was" if len(parts) == 1 else "were"
        if costs:
            named = "; ".join(_with(one, ap[one.variant]) for one in costs[:NAMED])
            most = f"{named}" if len(costs) <= NAMED else f"most of all {named}"
            text = (
                f"Of {len(parts)} {noun} that {were} cut one by one, {len(costs)} "
                f"cost{'s' if len(costs) == 1 else ''} more than {found.study.margin:g} AP: {most}."
            )
        else:
            text = (
                f"None of {len(parts)} {noun} that {were} cut one by one is known to cost more "
                f"than {found.study.margin:g} AP."
            )
        told.append(Sentence(text, tuple(one.variant for one in costs[:NAMED])))
    return told


def _free(found: Findings) -> Sentence:
    ap = found.ap()
    free = _ranked(found.cut(), ap, "free")
    if not free:
        return Sentence(
            f"No part is shown to be free: for none does the whole interval lie within "
            f"{found.study.margin:g} AP of no change, with as many questions asked."
        )
    names = ", ".join(f"{title(one)} ({_how(one)})" for one in free[::-1][: 2 * NAMED])
    more = f" and {len(free) - 2 * NAMED} more" if len(free) > 2 * NAMED else ""
    return Sentence(
        f"{len(free)} {'is' if len(free) == 1 else 'are'} free alone, within "
        f"{found.study.margin:g} AP: {names}{more}.{_not_in_f1(found, free)}",
        tuple(one.variant for one in free),
    )


def _not_in_f1(found: Findings, free: Sequence[NotedPart]) -> str:
    """Which of them change where scores lie, so that another threshold would be needed."""
    f1 = {
        one.name: row.get("f1_calibrated")
        for one, row in zip(found.results[1:], found.compared.changes, strict=True)
    }
    losing = [
        (one, change)
        for one in free
        if (change := f1.get(one.variant)) and change.significant and (change.change or 0.0) < 0
    ]
    if not losing:
        return ""
    losing.sort(key=lambda pair: pair[1].change or 0.0)
    named = "; ".join(f"{title(one)} (F1 {x.change:+z.4f})" for one, x in losing[:NAMED])
    more = f" and {len(losing) - NAMED} more" if len(losing) > NAMED else ""
    return (
        f" At the unmodified model's score threshold F1 falls significantly without {named}{more}."
    )


def _together(found: Findings) -> list[Sentence]:
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
    free = [name for name in fewer if _outcome(ap[name]) == "free"]
    for number, name in enumerate([*whole, *(free[-1:] or fewer[:1])]):
        change = ap[name]
        what = f"{len(every[name])} parts that looked free alone" if not number else (
            f"the {len(every[name])} of them that cost least alone"
        )  # fmt: skip
        outcome = _outcome(change)
        says = {
            "free": "they are free together, too",
            "costs": "together they are not free",
            "gains": "the detector is better without them",
        }.get(outcome, "whether they are free together is undecided")
        told.append(Sentence(f"Cut at once, {what}: {says} ({_by(change)}).", (name,)))
    return told


def _zeros(found: Findings) -> Sentence | None:
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
        f"{title(part)} (mean: AP {ap[part.variant].change:+z.4f}, zero: {_by(ap[zero])})"
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
        f"Of {len(pairs)} part{'s' * (len(pairs) > 1)} the mean was cut and, beside it, zero: "
        f"{told}. {says}",
        tuple(x for zero, part in pairs for x in (part.variant, zero)),
    )


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


def _compensation(found: Findings, value: float) -> list[Sentence]:
    """Joint cuts, and parts against what they are made of, held against the sum of singles."""
    ap = found.ap()
    asked: list[tuple[str, str, list[str]]] = [
        (f"the {len(members)} parts cut at once", name, members)
        for name, members in found.study.together.items()
        if name in ap and all(one in ap for one in members)
    ]
    asked += [
        (f"the {len(one.made_of)} parts of {title(one)}", one.variant, one.made_of)
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
                f"than the sum of what each costs alone (by {_by(change)})."
            )
        else:
            text = (
                f"{what[0].upper()}{what[1:]} depend on each other: together they cost less than "
                f"the sum of what each costs alone (by {_by(change)})."
            )
        told.append((change.change, Sentence(text, (name, *members))))
    told.sort(key=lambda one: one[0])
    return [one for _, one in told[:NAMED]]


def _classes(found: Findings, value: float) -> list[Sentence]:
    """Which classes pay for the costliest cuts that leave something of the detector."""
    ap = found.ap()
    alive = [
        one
        for one in _ranked(found.cut(), ap, "costs")
        if (ap[one.variant].value or 0.0) >= ALIVE * value
    ]
    place = {one.name: i for i, one in enumerate(found.results[1:])}
    for one in alive:
        pairs = zip(
            found.compared.classes, found.compared.by_class[place[one.variant]], strict=True
        )
        lost = [(name, x) for name, x in pairs if x.significant and (x.change or 0.0) < 0]
        if not lost:
            continue
        lost.sort(key=lambda pair: pair[1].change or 0.0)
        named = "; ".join(f"{name} ({_by(x)})" for name, x in lost[:3])
        classes = len(found.compared.classes)
        most = f"most of all {named}" if len(lost) > 3 else named
        verb, itself = ("loses", "itself") if len(lost) == 1 else ("lose", "themselves")
        rest = " Of the others these images do not tell." if len(lost) < classes else ""
        return [
            Sentence(
                f"Without {title(one)}, {len(lost)} of {classes} classes {verb} significantly by "
                f"{itself}: {most}.{rest}",
                (one.variant,),
            )
        ]
    return []


def _controls(found: Findings) -> Sentence | None:
    controls = [one for one in found.results[1:] if one.is_control]
    ap = found.ap()
    pairs = [
        (one.name, str(one.factors["control_of"]))
        for one in controls
        if one.factors.get("control_of") in ap
    ]
    known = [(ap[a].change, ap[b].change) for a, b in pairs]
    differ = [(a, b) for a, b in known if a is not None and b is not None]
    if not differ:
        return None
    least = min(a for a, _ in differ)
    head = min(b for _, b in differ)
    if len(differ) == 1:
        text = (
            "Beside one head as many random elements of the same tensors were cut: that changes AP "
            f"by {least:+z.4f}, the head by {head:+z.4f}."
        )
    else:
        text = (
            f"Beside {len(differ)} heads as many random elements of the same tensors were cut: the "
            f"costliest of these random cuts changes AP by {least:+z.4f}, the costliest of the "
            f"heads by {head:+z.4f}."
        )
    return Sentence(
        text,
        tuple(name for pair in pairs for name in pair),
    )


def _undecided(found: Findings) -> Sentence | None:
    ap = found.ap()
    left = [one for one in found.cut() if _outcome(ap[one.variant]) == "undecided"]
    if not left:
        return None
    verdicts: list[Verdict] = [v for one in left if (v := ap[one.variant].verdict) is not None]
    needed = [one.more for one in verdicts if one.more is not None]
    told = f"{len(left)} of {len(found.cut())} cuts {'is' if len(left) == 1 else 'are'} undecided"
    if needed:
        told += _would_decide(found, needed, len(left))
    return Sentence(f"{told}.", tuple(one.variant for one in left))


def _would_decide(found: Findings, needed: Sequence[int], undecided: int) -> str:
    """Which of them images would decide that there are, and which none would."""
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


def _left_out(study: Noted) -> Sentence | None:
    told = left_out(study)
    return Sentence(told) if told else None
