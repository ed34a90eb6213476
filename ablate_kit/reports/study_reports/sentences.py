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
from ablate_kit.studies.noted import INSIDE_FREE, Noted, NotedPart

NAMED = 4  # parts that one sentence names
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
        _carries(found, ap, images),
        *_inside(found),
        _free(found) if found.cut() else None,
        *_together(found),
        *_compensation(found, ap),
        *_classes(found, ap),
        _controls(found),
        _undecided(found),
        _left_out(found),
    ]
    return [one for one in told if one is not None]


def title(one: NotedPart) -> str:
    return one.part if one.head is None else f"{one.part} head {one.head}"


def _with(one: NotedPart, change: Change) -> str:
    zero = ", set to zero" if one.how == "zero" else ""
    return f"{title(one)} ({_by(change)}{zero})"


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
    total = sum(one.depth == 0 for one in found.study.parts)
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
    names = ", ".join(
        f"{title(one)}{' (set to zero)' if one.how == 'zero' else ''}"
        for one in free[::-1][: 2 * NAMED]
    )
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
    every = [(name, members) for name, members in found.study.together.items() if name in ap]
    # Of parts of them the most that are free, or the fewest if none are.
    fewer = sorted(every[1:], key=lambda one: len(one[1]))
    free = [one for one in fewer if _outcome(ap[one[0]]) == "free"]
    joint = [*every[:1], *(free[-1:] or fewer[:1])]
    for number, (name, members) in enumerate(joint):
        change = ap[name]
        what = f"{len(members)} parts that looked free alone" if not number else (
            f"the {len(members)} of them that cost least alone"
        )  # fmt: skip
        outcome = _outcome(change)
        says = {
            "free": "they are free together, too",
            "costs": "together they are not free",
            "gains": "the detector is better without them",
        }.get(outcome, "whether they are free together is undecided")
        told.append(Sentence(f"Cut at once, {what}: {says} ({_by(change)}).", (name,)))
    return told


def _compensation(found: Findings, value: float) -> list[Sentence]:
    """Joint cuts, and parts against what is inside of them, held against the sum of singles."""
    compared = found.compared
    if compared.baseline is None:
        return []
    pairs = zip(found.results[1:], compared.samples, strict=True)
    by_name = {one.name: samples for one, samples in pairs}
    asked: list[tuple[str, str, list[str]]] = [
        (f"the {len(members)} parts cut at once", name, members)
        for name, members in found.study.together.items()
        if name in by_name and all(one in by_name for one in members)
    ]
    for number, one in enumerate(found.study.parts):
        inner = [x for x in found.study.parts if x.parent == number and x.head is None]
        members = list(dict.fromkeys(x.variant for x in inner))
        skipped = all(x.how == "removed" and x.variant in by_name for x in [one, *inner])
        if len(members) > 1 and skipped and one.variant not in members and one.head is None:
            asked.append((f"the {len(members)} parts of {title(one)}", one.variant, members))
    if not asked:
        return []
    rows = interactions(
        compared.baseline,
        [by_name[name] for _, name, _ in asked],
        [[by_name[one] for one in members] for _, _, members in asked],
        compared.statistics.adjust,
    )
    told = []
    for (what, name, members), row in zip(asked, rows, strict=True):
        change = row["AP"]
        if not change.significant or change.change is None:
            continue
        alone = sum(by_name[one].overall["AP"].value - value for one in members)
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
    return Sentence(
        f"Beside {len(differ)} heads as many random elements of the same tensors were cut: the "
        f"costliest of these random cuts changes AP by {least:+z.4f}, the costliest of the heads "
        f"by {head:+z.4f}.",
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
        which = "them" if len(needed) == len(left) else f"{len(needed)} of them"
        images = f"{roughly(max(needed)):,}"
        told += f"; about {images} more images would decide {which}, if they are what they seem"
    return Sentence(f"{told}.", tuple(one.variant for one in left))


def _left_out(found: Findings) -> Sentence | None:
    study = found.study
    missing = [one for one in study.parts if one.state == "not afforded"]
    inside = sum(one.state == INSIDE_FREE for one in study.parts)
    if not missing:
        return None
    named = ", ".join(title(one) for one in missing[:NAMED])
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    some = f" on {study.images} of {study.total} images" if study.images < study.total else ""
    free = f"; {inside} more lie inside of parts that looked free" if inside else ""
    return Sentence(
        f"The budget of {study.budget}{some} did not reach {len(missing)} "
        f"cut{'s' * (len(missing) > 1)}: "
        f"{named}{more}{free}. A larger budget would, in a folder of its own."
    )
