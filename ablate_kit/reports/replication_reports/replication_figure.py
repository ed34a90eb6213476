"""The same cuts in several checkpoints, as a picture."""

from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.reports.answer import drawn_units
from ablate_kit.reports.comparison_figure import COLORS, ROWS
from ablate_kit.reports.saved_figure import new_figure, open_sides
from ablate_kit.sweeps.replications.replication import Replication

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vPX*"


def replication_figure(found: Replication) -> "Figure":
    """A row per cut, the costliest on top, and in it a dot per checkpoint, the mean, and its
    interval over checkpoints and images; what lies within the margin is shaded."""
    rows = [
        (found.title(cut), row.mean, row)
        for cut, row in zip(found.cuts, found.rows["AP"], strict=True)
        if row.mean is not None
    ]
    rows.sort(key=lambda row: -abs(row[1]))
    left = max(0, len(rows) - ROWS)
    unit, _ = drawn_units(found.baselines[0].evaluation)
    rows = sorted(rows[:ROWS], key=lambda row: row[1])
    figure = new_figure(9, 1.6 + 0.28 * len(rows))
    panel = figure.subplots()
    margin = found.statistics.margin
    panel.axvspan(-margin, margin, color="0.9", label=f"within ±{margin:g}", zorder=0)
    panel.axvline(0, color="black", linewidth=1)
    for number, name in enumerate(found.names):
        values = [row.changes[number].change or 0.0 for *_, row in rows]
        panel.plot(
            values,
            range(len(rows)),
            _MARKERS[number % len(_MARKERS)],
            color=COLORS[number % len(COLORS)],
            markersize=5,
            label=safe.label(name),
            zorder=2,
        )
    for place, (_, mean, row) in enumerate(rows):
        if row.low is not None and row.high is not None:
            panel.plot([row.low, row.high], [place, place], "-", color="black", linewidth=1)
        panel.plot(mean, place, "|", color="black", markersize=10, zorder=3)
    panel.set_yticks(range(len(rows)), [safe.label(name) for name, *_ in rows])
    panel.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    panel.set_xlabel(
        "change of AP; line: mean"
        + (f", 95 % interval over checkpoints and {unit}" if len(found.names) > 2 else "")
        + (f"; the {ROWS} of {ROWS + left} that change it most" if left else "")
    )
    open_sides(panel, "y")
    figure.legend(loc="outside upper center", ncols=min(len(found.names) + 1, 5), frameon=False)
    return figure
