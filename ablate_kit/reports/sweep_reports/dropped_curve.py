"""How AP falls as more and more is dropped, each point a joint cut that was evaluated itself.

The order is a ranking of the parts by what each costs alone, or that of a greedy search. The Pareto
front holds the cuts beside which no other one keeps as much AP and drops more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ablate_kit import text as safe
from ablate_kit.ablations.factors import ORDERS, SIZE
from ablate_kit.metrics.headline import metric
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.metrics.uncertainty.verdict import not_missed
from ablate_kit.reports.answer import RANKED_HERE, change_cells
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.comparison_table import more_would_decide
from ablate_kit.reports.pareto import draw_front, front
from ablate_kit.reports.records import Records
from ablate_kit.reports.saved_figure import new_figure, open_sides
from ablate_kit.reports.table import INTERVAL, Table, number, stars

_NOTE = (
    "each row is a joint cut, evaluated itself; elements: of the weights, that are cut; front: no "
    "other cut keeps as much AP, whatever its interval, and drops more; added: what the row before "
    "it does not drop"
)


@dataclass(frozen=True)
class Dropped:
    """One joint cut."""

    name: str
    curve: tuple[str, str]  # what the parts are of, and in which order they go
    # dropped, of: how many parts, of how many; 0 for the unmodified model.
    dropped: int
    of: int
    elements: int  # of the weights, that are cut
    added: str  # the parts that the cut before it does not have
    ap: float | None
    change: Change | None  # of AP; None of the unmodified model
    on_front: bool = False  # whether no other cut keeps as much AP and drops more


def curves(results: Sequence[Result], changes: Sequence[Changes]) -> list[Dropped]:
    """The unmodified model, then every point of every curve; nothing where there is no curve."""
    rows: list[tuple[Result, Change | None]] = [
        (one, changes[i]["AP"] if changes else None)
        for i, one in enumerate(results[1:])
        if one.factors.get("order") in ORDERS and SIZE in one.factors and not one.is_control
    ]
    if not rows:
        return []
    aps = [one.evaluation.overall["AP"] for one in (results[0], *(one for one, _ in rows))]
    sizes = [0, *(int(one.factors[SIZE]) for one, _ in rows)]
    best = front(aps, [-float(size) for size in sizes])
    found = [Dropped(results[0].name, ("", ""), 0, 0, 0, "", aps[0], None, best[0])]
    for i, (one, change) in enumerate(rows, start=1):
        told, order = one.factors, str(one.factors["order"])
        # A greedy search removes one head at a time.
        head = f"{told.get('module', '')} head {told.get('head', '')}"
        found.append(
            Dropped(
                one.name,
                (str(told.get("target", "")), order),
                int(told[ORDERS[order]]),
                int(told.get("of", 0)),
                sizes[i],
                str(told.get("added", head)),
                aps[i],
                change,
                best[i],
            )
        )
    return found


def sentence(found: Sequence[Dropped]) -> str:
    """The largest cut that is free; empty where there are no verdicts."""
    judged = [(one, one.change.verdict) for one in found if one.change and one.change.verdict]
    if not judged:
        return ""
    free = [one for one, verdict in judged if not_missed(verdict)]
    if not free:
        left = sum(verdict.outcome == "undecided" for _, verdict in judged)
        return f"no joint cut is shown to be free; {left} of {len(judged)} are undecided"
    largest = max(free, key=lambda one: one.elements)
    return (
        f"the largest joint cut that is free drops {largest.dropped} of {largest.of} parts, "
        f"{largest.elements:,} elements: {safe.line(largest.name)}; {RANKED_HERE}"
    )


def table(found: Sequence[Dropped], unit: str) -> Table:
    """``unit``: what is drawn for intervals."""
    rows = []
    for one in found:
        rows.append(
            (
                one.name,
                f"{one.dropped} of {one.of}" if one.of else "",
                f"{one.elements:,}",
                number(one.ap),
                *change_cells(one.change),
                "front" if one.on_front else "",
                one.added,
            )
        )
    told = _NOTE
    if any(one.change for one in found):
        told += f"; {stars(rows)}, adjusted for all variants of the run, as verdicts are"
        told += more_would_decide(rows, unit)
    title = "\n".join(filter(None, [sentence(found), told]))
    header = ("cut", "parts", "elements", "AP", "Δ AP", INTERVAL, "verdict", "Pareto", "added")
    return Table(title, header, tuple(rows), ("cut", "verdict", "added"))


def records(found: Sequence[Dropped]) -> Records:
    """AP at full precision."""
    header = (
        *("variant", "target", "order", "dropped", "of", "elements", "AP", "change", "low"),
        *("high", "verdict", "pareto", "added"),
    )
    rows = []
    for one in found:
        change = one.change
        told = (change.change, change.low, change.high) if change else (None, None, None)
        outcome = change.outcome or None if change else None
        cut = (one.name, *one.curve, one.dropped, one.of, one.elements, one.ap)
        rows.append((*cut, *told, outcome, int(one.on_front), one.added))
    return Records(header, rows)


def figure(found: Sequence[Dropped]) -> tuple[str, Figure]:
    """AP over the elements that are cut, a line per curve, and the Pareto front below them."""
    own, *points = found
    drawn = new_figure(8, 4.6)
    panel = drawn.subplots()
    best = [(one.elements, one.ap) for one in found if one.on_front and one.ap is not None]
    draw_front(panel, best, "steps-pre")
    for i, curve in enumerate(dict.fromkeys(one.curve for one in points)):
        color = COLORS[i % len(COLORS)]
        there = [(one, one.ap) for one in points if one.curve == curve and one.ap is not None]
        there.sort(key=lambda pair: pair[0].elements)
        line = [(own.elements, own.ap)] if own.ap is not None else []
        line += [(one.elements, ap) for one, ap in there]
        if not line:
            continue
        target, order = curve
        label = f"{'greedy search' if order == 'greedy' else order}: {target}"
        panel.plot(*zip(*line, strict=True), "o-", color=color, markersize=4, linewidth=1,
                   label=safe.label(label), zorder=3)  # fmt: skip
        for one, _ in there:
            change = one.change
            if own.ap is not None and change and change.low is not None and change.high is not None:
                ends = metric("AP").between(own.ap + change.low, own.ap + change.high)
                panel.vlines(one.elements, *ends, color=color, linewidth=1.5, zorder=2)
    if own.ap is not None:
        panel.axhline(own.ap, color="black", linewidth=0.8, linestyle="--")
    panel.set_xlabel("elements of the weights that are cut")
    panel.set_ylabel("AP")
    open_sides(panel)
    if any(one.ap is not None for one in found):
        drawn.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)
    caption = (
        "AP as more and more is dropped, each point a joint cut that was evaluated itself, with "
        f"the 95 % interval of its change, of that cut alone; {RANKED_HERE}."
    )
    return caption, drawn
