"""Sentences on parts that were cut one by one: what costs, what is free, what classes lose."""

from collections.abc import Sequence

from ablate_kit.metrics.uncertainty.chance import LEVEL, paired_test
from ablate_kit.metrics.uncertainty.verdict import free_takes
from ablate_kit.plural import counted, first_few
from ablate_kit.reports.answer import drawn_units, not_shown, without_labels
from ablate_kit.reports.study_reports.findings import (
    NAMED,
    Findings,
    Sentence,
    ap_samples,
    by,
    ranked,
    with_effect,
)
from ablate_kit.reports.study_reports.titles import how, title
from ablate_kit.studies.noted import NotedPart

_LARGE = 0.1  # share of the AP that the margin is, from which what is free may matter
ALIVE = 0.1  # share of the AP that must be left for the losses of classes to say something


def what_carries(found: Findings, value: float, images: int) -> Sentence:
    """Which top-level parts cost most; ``value``: AP of the unmodified model."""
    ap = found.ap()
    top = [one for one in found.cut() if one.depth == 0]
    if not top:
        return Sentence(
            f"Nothing was cut: a budget of {found.study.budget} is not enough for one of its "
            f"{sum(one.depth == 0 for one in found.study.parts)} top-level parts."
        )
    costs = ranked(top, ap, "costs")
    start = f"Unmodified, the detector has an AP of {value:.4f} on {counted(images, 'image')}"
    share = found.margin / value if value else 0.0
    start += f"; the margin of {found.margin:g} is {share:.0%} of it." if share >= _LARGE else "."
    if without_labels(found.results):
        start = (
            f"On {counted(images, 'image')} without labels, every AP is a distance from the "
            "unmodified model, whose own boxes stand for objects."
        )
    total = len({one.variant for one in found.study.parts if one.depth == 0})
    parts, these = f"its {total} top-level parts", ""
    if len(top) < total:
        parts, these = f"the {len(top)} that were cut", f" of {parts}"
    if not costs:
        return Sentence(
            f"{start} None of {parts}{these} is known to cost more than {found.margin:g} AP.",
            tuple(one.variant for one in top),
        )
    named = "; ".join(with_effect(one, ap[one.variant]) for one in costs[:NAMED])
    count = "All" if len(costs) == len(top) else str(len(costs))
    verb = "costs" if count == "1" else "cost"
    return Sentence(
        f"{start} {count} of {parts}{these} {verb} more than {found.margin:g} AP, most of "
        f"all {named}.",
        tuple(one.variant for one in costs),
    )


def what_is_inside(found: Findings) -> list[Sentence]:
    """What costs most of what was looked into, for parts and for heads."""
    ap = found.ap()
    told = []
    nouns = (
        ("part inside of these", "parts inside of these", False),
        ("attention head", "attention heads", True),
    )
    for one_of_them, many, heads in nouns:
        parts = [one for one in found.cut() if one.depth and (one.head is not None) == heads]
        costs = ranked(parts, ap, "costs")
        if not parts:
            continue
        named = "; ".join(with_effect(one, ap[one.variant]) for one in costs[:NAMED])
        most = f": {named}" if len(costs) <= NAMED else f": most of all {named}"
        more = f"more than {found.margin:g} AP{most if costs else ''}."
        several = f"{len(parts)} {many} that were cut one by one"
        if len(parts) == 1:
            verb = "costs" if costs else "is not known to cost"
            text = f"The one {one_of_them} that was cut {verb} {more}"
        elif costs:
            text = f"Of {several}, {len(costs)} cost{'s' * (len(costs) == 1)} {more}"
        else:
            text = f"None of {several} is known to cost {more}"
        told.append(Sentence(text, tuple(one.variant for one in costs[:NAMED])))
    return told


def what_is_better_left_out(found: Findings) -> Sentence | None:
    """Without which parts the detector is better."""
    ap = found.ap()
    gains = ranked(found.cut(), ap, "gains")[::-1]
    if not gains:
        return None
    named = "; ".join(with_effect(one, ap[one.variant]) for one in gains[:NAMED])
    most = f"most of all without {named}" if len(gains) > NAMED else named
    return Sentence(
        f"Without {counted(len(gains), 'part')} the detector is better by more than "
        f"{found.margin:g} AP, cut one by one: {most}.",
        tuple(one.variant for one in gains),
    )


def what_is_free(found: Findings) -> Sentence:
    """Which parts are free alone, and which of these cost F1 all the same."""
    ap = found.ap()
    free = ranked(found.cut(), ap, "free")
    if not free:
        unit, drawn = drawn_units(found.results[0].evaluation)
        if drawn < (takes := free_takes(found.margin)):
            return Sentence(f"No part is shown to be free: that takes {takes} {unit} or more.")
        return Sentence(
            "No part is shown to be free: for none is the change shown to lie within "
            f"{found.margin:g} AP, adjusted for all cuts."
        )
    names = first_few([f"{title(one)} ({how(one)})" for one in free[::-1]], 2 * NAMED)
    shown = not_shown(*drawn_units(found.results[0].evaluation), found.margin)
    return Sentence(
        f"{len(free)} {'is' if len(free) == 1 else 'are'} free alone, within "
        f"{found.margin:g} AP: {names}.{_not_in_f1(found, free)}{shown and f' {shown}.'}",
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
    named = first_few([f"{title(one)} (F1 {x.change:+z.4f})" for one, x in losing], NAMED, "; ")
    return f" At the unmodified model's score threshold F1 falls significantly without {named}."


def what_classes_lose(found: Findings, value: float) -> list[Sentence]:
    """Which classes pay for the costliest cut that leaves something of the detector, and whose
    classes tell. It is the costliest on these images, so that chance of classes that do not change
    is in it, too: of 24 cuts that cost alike one was said to change in up to 22 % of studies. Stars
    of classes are adjusted for the cuts that it may be (``benchmarks/simulated_stars.py``). Of a
    single class its AP is that of all, which is told."""
    if len(found.compared.classes) < 2:
        return []
    ap = found.ap()
    alive = [
        one
        for one in ranked(found.cut(), ap, "costs")
        if (ap[one.variant].value or 0.0) >= ALIVE * value
    ]
    place = {one.name: i for i, one in enumerate(found.results[1:])}
    for one in alive:
        by_class = found.compared.by_class[place[one.variant]]
        pairs = zip(found.compared.classes, by_class, strict=True)
        told = [
            (name, x)
            for name, x in pairs
            if x.p_adjusted is not None and x.p_adjusted * len(alive) < 1 - LEVEL
        ]
        lost = [(name, x) for name, x in told if (x.change or 0.0) < 0]
        if not lost:
            continue
        lost.sort(key=lambda pair: pair[1].change or 0.0)
        named = "; ".join(f"{name} ({by(x)})" for name, x in lost[:3])
        classes = len(found.compared.classes)
        most = f"most of all {named}" if len(lost) > 3 else named
        verb, itself = ("loses", "itself") if len(lost) == 1 else ("lose", "themselves")
        gained = len(told) - len(lost)
        rest = f" {gained} gain{'s' * (gained == 1)} significantly." if gained else ""
        cuts = f" (adjusted for {len(alive)} such cuts, too)" if len(alive) > 1 else ""
        if len(lost) + gained < classes:
            rest += " Of the others these images do not tell."
        return [
            Sentence(
                f"Without {title(one)}, {len(lost)} of {classes} classes {verb} significantly by "
                f"{itself}{cuts}: {most}.{rest}",
                (one.variant,),
            )
        ]
    return []


def random_controls(found: Findings) -> Sentence | None:
    """What as many random elements as a head has cost, beside the head."""
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
        heads, told = "one head", f"that changes AP by {least:+z.4f}, the head by {head:+z.4f}"
    else:
        heads = f"{len(differ)} heads"
        told = f"{_costliest('these random cuts', least)}, {_costliest('the heads', head)}"
    return Sentence(
        f"Beside {heads} as many random elements of the same tensors were cut: {told}"
        f"{_beyond_random(found, pairs)}.",
        tuple(name for pair in pairs for name in pair),
    )


def _beyond_random(found: Findings, pairs: Sequence[tuple[str, str]]) -> str:
    """How many heads cost more than their own random elements, by a test that is adjusted for all
    heads that were cut: those beside which there is a control are the costliest, among others."""
    samples = ap_samples(found)
    tests = [
        paired_test(samples[head] - samples[control])
        for control, head in pairs
        if {head, control} <= samples.keys()
    ]
    if not tests:
        return ""
    heads = max(len(tests), sum(one.head is not None for one in found.cut()))
    more = sum(
        test is not None and test.change < 0 and test.p * heads < 1 - LEVEL for test in tests
    )
    if len(tests) == 1:
        return f"; it {'costs significantly' if more else 'is not shown to cost'} more"
    told = f"{more or 'none'} of the heads {'cost' if more > 1 else 'costs'} significantly more"
    return f"; {told} than theirs (adjusted for {heads})"


def _costliest(cuts: str, least: float) -> str:
    """Of several cuts the largest loss; that there is none where the least change is a gain."""
    if round(least, 4) >= 0:
        return f"none of {cuts} lowers AP"
    return f"the costliest of {cuts} lowers AP by {-least:.4f}"
