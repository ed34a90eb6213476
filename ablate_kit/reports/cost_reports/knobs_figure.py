"""Accuracy against cost of a detector's settings, as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.costs.cost import Cost
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.cost_reports.knobs_table import pareto, price_name, prices
from ablate_kit.reports.pareto import draw_front
from ablate_kit.reports.saved_figure import new_figure, open_sides

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 2**31  # layers or queries: a detector has no more than it has


def knobs_figure(results: Sequence[Result], found: Comparison, costs: Sequence[Cost]) -> "Figure":
    """AP over what each setting costs, a line per knob, with 95 % intervals; the Pareto front is a
    line below them."""
    figure = new_figure(8, 5)
    panel = figure.subplots()
    aps = [one.evaluation.overall["AP"] for one in results]
    price = prices(costs)
    own, now = aps[0], price[0][0]
    best = zip(price, aps, pareto(results, costs), strict=True)
    front = [(cost, ap) for (cost, *_), ap, on in best if on and ap is not None]
    draw_front(panel, front, "steps-post")
    knobs = list(dict.fromkeys(str(one.factors["knob"]) for one in results[1:]))
    for knob, color in zip(knobs, COLORS, strict=False):
        rows = [i for i, one in enumerate(results) if one.factors.get("knob") == knob]
        drawn = [(i, price[i], ap) for i in rows if (ap := aps[i]) is not None]
        # In the order of the settings, of which the detector's own is one.
        line = [(int(results[i].factors["setting"]), p[0], ap) for i, p, ap in drawn]
        if own is not None:
            line.append((min(costs[0].size) if knob == "size" else _MOST, now, own))
        line.sort()
        panel.plot(
            [x for _, x, _ in line], [y for *_, y in line], color=color, linewidth=1, zorder=2
        )
        for number, (i, (at, low, high), ap) in enumerate(drawn):
            label = safe.label(knob) if number == 0 else None
            panel.plot(at, ap, "o", color=color, markersize=6, label=label, zorder=3)
            panel.hlines(ap, low, high, color=color, linewidth=1.5, zorder=3)
            change = found.changes[i - 1]["AP"] if found.changes else None
            if own is not None and change and change.low is not None and change.high is not None:
                panel.vlines(at, own + change.low, own + change.high, color=color, linewidth=1.5)
            panel.annotate(
                str(results[i].factors["setting"]),
                (at, ap),
                xytext=(5, -12),
                textcoords="offset points",
                fontsize=9,
                color=color,
            )
    if own is not None:
        panel.plot(now, own, "s", color="black", label=safe.label(results[0].name), zorder=4)
    panel.set_xlabel(price_name(costs) + (" (95 % interval)" if costs[0].latency else ""))
    panel.set_ylabel("AP" + (" (95 % interval of the change)" if found.changes else ""))
    open_sides(panel)
    if any(one is not None for one in aps):
        figure.legend(loc="outside upper center", ncols=len(knobs) + 2, frameon=False)
    return figure
