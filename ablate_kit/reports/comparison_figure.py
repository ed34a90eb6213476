"""Results as pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.metrics.headline import DRAWN
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Changes
from ablate_kit.reports.saved_figure import new_figure, open_sides

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which color-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
ROWS = 60  # a picture of some hundred is more than can be read


def most_changed(results: Sequence[Result], count: int) -> list[int]:
    """Positions of the first and of the ``count`` others whose AP differs most from its own."""
    ap = [one.evaluation.overall["AP"] or 0.0 for one in results]
    order = sorted(range(1, len(results)), key=lambda i: -abs(ap[i] - ap[0]))
    return [0, *sorted(order[:count])]


def comparison_figure(results: Sequence[Result], changes: Sequence[Changes] = ()) -> "Figure":
    """A dot per variant and metric, colored by kind, with the baseline as a line; and of
    ``changes``, one for each other result, the 95 % interval against that line."""
    shown, others = most_changed(results, ROWS), len(results) - 1
    results = [results[i] for i in shown]
    changes = [changes[i - 1] for i in shown[1:]] if changes else changes
    kinds = list(dict.fromkeys(result.kind for result in results[1:]))
    figure = new_figure(9, 1.6 + 0.26 * len(results))
    panels = figure.subplots(1, len(DRAWN), sharey=True)
    for panel, metric in zip(panels, DRAWN, strict=True):
        key = metric.key
        baseline = results[0].evaluation.overall[key]
        if baseline is not None:
            panel.axvline(baseline, color="black", linewidth=1, label=safe.label(results[0].name))
        for kind, color in zip(kinds, COLORS * len(kinds), strict=False):
            points = [
                (result.evaluation.overall[key], i)
                for i, result in enumerate(results)
                if result.kind == kind and result.evaluation.overall[key] is not None
            ]
            if not points:
                continue
            x, y = zip(*points, strict=True)
            panel.plot(x, y, "o", color=color, markersize=6, label=safe.label(kind))
            if baseline is not None:
                panel.hlines(y, baseline, x, color=color, linewidth=0.8, alpha=0.6)
                for i in y if changes else ():
                    low, high = changes[i - 1][key].low, changes[i - 1][key].high
                    if low is not None and high is not None:
                        ends = [baseline + low, baseline + high]
                        panel.plot(ends, [i, i], "|-", color=color, linewidth=2, markersize=7)
        panel.set_xlabel(metric.axis)
        panel.locator_params(axis="x", nbins=4)
        open_sides(panel, "y")
    panels[0].set_yticks(
        range(1, len(results)), [safe.label(result.name) for result in results[1:]]
    )
    panels[0].set_ylim(len(results) - 0.4, 0.4)
    notes = ["95 % interval of each change, by itself"] if changes else []
    if others > ROWS:
        notes.append(f"the {ROWS} of {others} whose AP changes most")
    if notes:
        figure.supxlabel("; ".join(notes), fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    return figure
