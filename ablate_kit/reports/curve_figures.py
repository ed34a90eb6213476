"""Precision, recall and F1 over the score threshold, as a picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ablate_kit import text as safe
from ablate_kit.metrics.curves import Curves
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.saved_figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8  # curves that can be told apart


def curves_figure(drawn: Mapping[str, Curves], threshold: float, note: str) -> "Figure":
    """Precision against recall, and F1, precision and recall against the score, over all classes.

    The operating point, ``threshold``, is a dot on each curve and a line. ``note`` stands below.
    """
    figure = new_figure(9, 3.2)
    panels = figure.subplots(1, 4)
    # Scores are shares in most detectors, but not in all.
    low = min([0.0, *(float(one.threshold.min(initial=0)) for one in drawn.values())])
    high = max([1.0, *(float(one.threshold.max(initial=1)) for one in drawn.values())])
    names = ("precision", "F1", "precision", "recall")
    for panel, name in zip(panels, names, strict=True):
        panel.set_xlabel("score threshold")
        panel.set_ylabel(name)
        panel.set_xlim(low, high)
        panel.set_ylim(0, 1)
        panel.grid(color="0.92")
        panel.spines[["top", "right"]].set_visible(False)
        panel.axvline(threshold, color="0.5", linewidth=0.8, linestyle="--")
    panels[0].set_xlabel("recall")
    panels[0].set_xlim(0, 1)
    panels[0].lines[0].remove()  # the threshold is no recall
    for number, (name, one) in enumerate(drawn.items()):
        color, dash = COLORS[number % len(COLORS)], "-" if number < len(COLORS) else "--"
        at = int(np.sum(one.threshold >= threshold)) - 1
        for panel, x, y in (
            (panels[0], one.recall, one.precision),
            (panels[1], one.threshold, one.f1),
            (panels[2], one.threshold, one.precision),
            (panels[3], one.threshold, one.recall),
        ):
            label = safe.label(name) if panel is panels[0] else None
            panel.plot(x, y, dash, color=color, linewidth=1.3, label=label)
            if at >= 0:
                panel.plot(x[at], y[at], "o", color=color, markersize=5)
    if len(drawn):
        figure.legend(loc="outside upper center", ncols=min(len(drawn), 4), frameon=False)
    if note:
        figure.supxlabel(note, fontsize="medium")
    return figure
