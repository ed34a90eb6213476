"""A comparison as a paper shows it: no wider than a page, its rows named as sentences name them."""

from collections.abc import Sequence

from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import Changes
from ablate_kit.plural import counted
from ablate_kit.reports.answer import (
    OF_DETECTORS,
    adjusted_by,
    compared_with,
    compares_detectors,
    drawn_units,
    of_all_metrics,
    unequal_clusters,
    without_labels,
)
from ablate_kit.reports.comparison_table import GIOU_APART, change_of, mark_of
from ablate_kit.reports.table import APART, INTERVAL, Table, ends, number, shows, stars

AS_IN_TABLE = "every change with its interval: table.md, changes.csv"


def caption(results: Sequence[Result], found: Comparison, rows: Sequence[Sequence[str]]) -> str:
    """What a reader of a table with these ``rows`` has to know; empty without intervals, and of a
    race, whose rows are of different images."""
    first, *others = results
    if not found.changes or any(one.images != first.images for one in others):
        return ""
    unit, drawn = drawn_units(first.evaluation)
    baseline = compared_with(results)
    tested = counted(sum(not one.is_control for one in others), "variant")
    judged = any(one["AP"].verdict for one in found.changes)
    verdicts = f"; verdicts: at a margin of {found.statistics.margin:g} AP; both" if judged else ","
    star = stars(rows)
    adjusted = adjusted_by(found.statistics.adjust, of_all_metrics(found.changes))
    apart = f" {GIOU_APART}." if shows(rows, APART) else ""
    unequal = (
        f" {told[0].upper()}{told[1:]}." if (told := unequal_clusters(first.evaluation)) else ""
    )
    own = f" No labels: boxes of {baseline} stand for objects." if without_labels(results) else ""
    return (
        f"AP and its change against {baseline} on the same {counted(drawn, unit[:-1])}; 95 % "
        f"intervals are of each change alone, over {unit}. {star[0].upper()}{star[1:]}{verdicts} "
        f"adjusted for {tested} ({adjusted}).{apart}{unequal}{own}"
    )


def paper_table(
    results: Sequence[Result], changes: Sequence[Changes] | None = None, title: str = ""
) -> Table:
    """A row for each result: AP and its change against the first, with the interval; the other
    metrics, with the mark of their change; and the verdict.

    Args:
        changes: of each result but the first.
        title: of the whole table, of which this is a part.
    """
    others = (*METRICS[1:2], *MEASURES) if without_labels(results) else METRICS[1:]
    judged = bool(changes) and any(one["AP"].verdict for one in changes or ())
    said = OF_DETECTORS if compares_detectors(results) else {}

    def row(i: int, one: Result) -> tuple[str, ...]:
        own = changes[i - 1] if changes and i else None
        cells = [one.name, number(one.evaluation.overall["AP"])]
        cells.append(number(change_of(results, changes, "AP", i), "+z.4f") if i else "")
        if changes:
            cells.append(ends(own["AP"].low, own["AP"].high, mark_of(own, "AP")) if own else "")
        for other in others:
            value = number(one.evaluation.overall[other.key])
            cells.append(value + (mark_of(own, other.key).strip() if own else ""))
        if judged:
            verdict = own["AP"].verdict if own else None
            cells.append(said.get(verdict.outcome, verdict.outcome) if verdict else "")
        return tuple(cells)

    header = ["variant", "AP", "Δ AP", *([INTERVAL] if changes else [])]
    header += [*(one.label for one in others), *(["verdict"] if judged else [])]
    lines = [title, AS_IN_TABLE] if title else []
    rows = tuple(row(i, one) for i, one in enumerate(results))
    return Table("\n".join(lines), tuple(header), rows, ("variant", "verdict"))
