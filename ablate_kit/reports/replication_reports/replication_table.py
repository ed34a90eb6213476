"""The same cuts in several checkpoints, as a table and as rows of numbers."""

from collections.abc import Sequence

from ablate_kit import text as safe
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.replicates import FEWEST, Replicated
from ablate_kit.metrics.uncertainty.significance import COLUMNS, Change
from ablate_kit.plural import counted
from ablate_kit.reports.answer import drawn_units, unequal_clusters
from ablate_kit.reports.records import Records
from ablate_kit.reports.replication_reports.replication_words import outcome_word
from ablate_kit.reports.table import APART, INTERVAL, Table, ends, number, shows
from ablate_kit.sweeps.replications.replication import Replication


def replication_table(found: Replication, top: int | None = None) -> Table:
    """A row per cut: its change of AP in each checkpoint, and what they come to.

    ``top``: only so many, of those that cost most in the mean.
    """
    rows = list(zip(found.cuts, found.rows["AP"], strict=True))
    if top is not None:
        rows = sorted(rows, key=lambda row: 0.0 if row[1].mean is None else row[1].mean)[:top]
    interval = len(found.names) >= FEWEST
    header = ("cut", *found.names, "mean", *([INTERVAL] if interval else []), "SD", "in all")
    cells = tuple(
        (
            found.title(cut),
            *map(_change, row.changes),
            number(row.mean, "+z.4f"),
            *([ends(row.low, row.high)] if interval else []),
            number(row.deviation) + (APART if row.differs else " "),
            outcome_word(row.outcome),
        )
        for cut, row in rows
    )
    return Table(_title(found, cells), header, cells, ("cut", "in all"))


def cuts_records(found: Replication) -> Records:
    """A row per cut and metric: what its changes come to."""
    own = ("mean", "low", "high", "deviation", "p_differ", "outcome")
    return Records(
        ("cut", "kind", "metric", *own[:-1], "in_all"),
        [
            [cut.name, cut.kind, key, *(getattr(row, name) for name in own)]
            for key in KEYS
            for cut, row in zip(found.cuts, found.rows[key], strict=True)
        ],
    )


def changes_in_each(found: Replication) -> Records:
    """A row per cut, checkpoint and metric: the change with its interval over images."""
    return Records(
        ("cut", "kind", "checkpoint", "metric", *COLUMNS),
        [
            [cut.name, cut.kind, name, key, *change.to_dict().values()]
            for key in KEYS
            for cut, row in zip(found.cuts, found.rows[key], strict=True)
            for name, change in zip(found.names, row.changes, strict=True)
        ],
    )


def _change(change: Change) -> str:
    verdict = "?" if change.outcome == "undecided" else change.outcome
    return f"{number(change.change, '+z.4f')} {verdict}".rstrip()


def _agree_and_undecided(row: Replicated) -> bool:
    own = {one.outcome or "undecided" for one in row.changes}
    return row.outcome == "undecided" and len(own) == 1 and "undecided" not in own


def _title(found: Replication, rows: Sequence[Sequence[str]]) -> str:
    own = ", ".join(
        f"{number(one.evaluation.overall['AP'])} ({safe.line(name)})"
        for name, one in zip(found.names, found.baselines, strict=True)
    )
    asked, many = found.statistics, len(found.cuts)
    unit, drawn = drawn_units(found.baselines[0].evaluation)
    clustered = "" if unit == "images" else f" in {counted(drawn, 'cluster')}"
    lines = [
        f"{counted(found.baselines[0].images, 'image')}{clustered}; unmodified: AP {own}",
        f"in each checkpoint the change of AP with its verdict at a margin of {asked.margin:g}"
        + " (?: undecided)" * shows(rows, "?")
        + f", adjusted for {counted(many, 'cut')}",
        (
            f"interval of the mean over checkpoints and {unit}, of each cut alone; "
            if len(found.names) >= FEWEST
            else ""
        )
        + "SD: between the checkpoints"
        + f" ({APART}: they differ, p < 0.05, adjusted after Holm)" * shows(rows, APART),
    ]
    if any(_agree_and_undecided(row) for row in found.rows["AP"]):
        lines.append(
            f"in all: one test of all checkpoints, adjusted for {counted(many, 'cut')} after Holm; "
            "a verdict that each of them has may be undecided in all"
        )
    if unequal := unequal_clusters(found.baselines[0].evaluation):
        lines.append(unequal)
    if len(rows) < many:
        lines.append(f"the {len(rows)} of {many:,} that cost most AP in the mean")
    return "\n".join(lines)
