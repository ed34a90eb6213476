"""A comparison as a paper shows it: no wider than a page, its rows named as sentences name them."""

from collections.abc import Mapping, Sequence

from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Changes
from ablate_kit.reports.answer import compares_detectors, without_labels
from ablate_kit.reports.comparison_table import change_of, mark_of
from ablate_kit.reports.table import INTERVAL, Table, ends, number

AS_IN_TABLE = "every change with its interval: table.md, changes.csv"


def paper_table(
    results: Sequence[Result],
    changes: Sequence[Changes] | None = None,
    title: str = "",
    names: Mapping[str, str] | None = None,
) -> Table:
    """A row for each result: AP and its change against the first, with the interval; the other
    metrics, with the mark of their change; and the verdict.

    Args:
        changes: of each result but the first.
        title: of the whole table, of which this is a part.
        names: what sentences call the variants; one that is not there keeps its name.
    """
    others = (*METRICS[1:2], *MEASURES) if without_labels(results) else METRICS[1:]
    judged = bool(changes) and any(one["AP"].verdict for one in changes or ())
    words = {"costs": "worse", "free": "as good", "gains": "better"}
    said = words if compares_detectors(results) else {}

    def row(i: int, one: Result) -> tuple[str, ...]:
        own = changes[i - 1] if changes and i else None
        cells = [(names or {}).get(one.name, one.name), number(one.evaluation.overall["AP"])]
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
