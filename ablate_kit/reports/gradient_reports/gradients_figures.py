"""A gradient diagnosis as pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ablate_kit import text as safe
from ablate_kit.gradients.diagnose import FLAGS, VERDICTS
from ablate_kit.gradients.region import region
from ablate_kit.gradients.timeline import EDGES
from ablate_kit.reports.gradient_reports.gradients_text import GradientReport
from ablate_kit.reports.saved_figure import NEAR_WHITE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sound in gray-green, what is grave in strong colors; neighbors differ for color-blind readers.
COLORS = {
    "non_finite": "#A50026",
    "no_update": "#7A0177",
    "never_updated": "#D55E00",
    "vanishing": "#CC79A7",
    "unchanged": "#8C564B",
    "dead_rows": "#0072B2",
    "low": "#E69F00",
    "below_ulp": "#5D3A9B",
    "intermittent": "#F0E442",
    "high": "#56B4E9",
    "not_measured": "#E8E8E8",
    "healthy": "#9FCFB6",
    "frozen": "#C9C9C9",
}
# Beside their colors; what is sound has none.
_PATTERNS = ("xx", "//", "\\\\", "..", "--", "||", "oo", "++", "**", "OO")
HATCHES = dict(zip(FLAGS, _PATTERNS, strict=True))
CLOSE = 0.018  # of the figure's height: labels nearer than this are left out


def heat_map(report: GradientReport) -> "Figure":
    """Mean gradient norm of every tensor, in the model's order, over the steps."""
    figure = new_figure(9, 8)
    axes: Any = figure.subplots()
    measured = report.diagnosis.measured
    norms = measured.timeline.norms().T  # (T, spans)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.log10(norms)
    shown = np.where(np.isfinite(levels), levels, np.nan)
    count, spans = shown.shape
    if spans:
        finite = shown[np.isfinite(shown)]
        low, high = np.percentile(finite, (1, 99)) if len(finite) else (-1.0, 0.0)
        axes.set_facecolor("#DDDDDD")
        image = axes.imshow(
            shown,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            vmin=low,
            vmax=max(high, low + 1e-6),
            extent=(0, spans * measured.timeline.length, count, 0),
        )
        figure.colorbar(image, ax=axes, label="log10 of the mean gradient norm", pad=0.02)
    names = [region(name, report.depth) for name in measured.names]
    edges = [i for i in range(count) if i == 0 or names[i] != names[i - 1]]
    lengths = np.diff([*edges, count])
    ticks: list[float] = []
    for k in np.argsort(-lengths, kind="stable"):  # where there is no room, large modules win
        middle = edges[k] + lengths[k] / 2
        if all(abs(middle - tick) >= CLOSE * count for tick in ticks):
            ticks.append(float(middle))
    axes.set_yticks(ticks, [safe.label(names[int(tick)]) for tick in ticks], fontsize=7)
    axes.set_xlabel("optimizer step")
    axes.set_title(
        "Gradient norm by depth over time (gray: none, or zero)", fontsize=10, loc="left"
    )
    return figure


def update_histogram(report: GradientReport) -> "Figure":
    """How large the steps were against the weights, over all steps and tensors."""
    figure = new_figure(7, 3.2)
    axes: Any = figure.subplots()
    counts = report.diagnosis.measured.timeline.ratios
    axes.bar(EDGES[:-1], counts, width=np.diff(EDGES), align="edge", color="#0072B2")
    axes.axvspan(-4, -2, color="#9FCFB6", alpha=0.35, zorder=0, label="usual: 1e-4 to 1e-2")
    axes.set_xlabel("log10 of the step's norm over the weights' norm")
    axes.set_ylabel("tensors x steps")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def verdict_bars(report: GradientReport) -> "Figure":
    """Tensors of each module by verdict."""
    modules = report.modules()
    figure = new_figure(8, 1.4 + 0.24 * len(modules))
    axes: Any = figure.subplots()
    places = np.arange(len(modules))
    left = np.zeros(len(modules))
    for verdict in VERDICTS:
        widths = np.array([counts.get(verdict, 0) for counts in modules.values()], dtype=float)
        if widths.any():
            label = verdict.replace("_", " ")
            look = {
                "color": COLORS[verdict],
                "hatch": HATCHES.get(verdict),
                "edgecolor": NEAR_WHITE,
            }
            axes.barh(places, widths, left=left, label=label, height=0.8, linewidth=0, **look)
            left += widths
    axes.set_yticks(places, list(map(safe.label, modules)), fontsize=8)
    axes.set_ylim(len(modules) - 0.4, -0.6)
    axes.set_xlabel("tensors")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return figure


FIGURES = {"heat_map": heat_map, "update_ratios": update_histogram, "verdicts": verdict_bars}
