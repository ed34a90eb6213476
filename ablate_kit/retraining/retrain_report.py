"""The files that a study ends with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate_kit import text as safe
from ablate_kit.metrics.uncertainty.repeats import Combined
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.saved_figure import KINDS, drawn, new_figure, open_sides
from ablate_kit.retraining.runs import CURVES, RunResult
from ablate_kit.retraining.summary import by_arm, class_table, difference, summary_table
from detector.disk.atomic import new_files

FILES = ("table.md", "table.csv", "table.tex", "per_class.csv", *(f"figure.{one}" for one in KINDS))


def write_report(
    outcomes: Sequence[RunResult], folder: Path, over_images: Mapping[str, Combined] | None = None
) -> None:
    """``FILES``, replaced together."""
    table = summary_table(outcomes, over_images)
    what_is_what = table.title.partition("\n")[2]  # below what the arms come to
    texts = {
        "table.md": table.markdown(),
        "table.csv": table.csv(),
        "table.tex": table.latex(what_is_what),
        "per_class.csv": class_table(outcomes).csv(),
    }
    contents = {name: text.encode() for name, text in texts.items()}
    pictures = {f"figure.{kind}": file for kind, file in drawn(_figure(outcomes)).items()}
    new_files(folder, contents | pictures)


def _figure(outcomes: Sequence[RunResult]) -> Any:
    """Curves of every arm, and each arm's differences to the baseline, seed by seed."""
    from matplotlib.ticker import MaxNLocator

    arms = by_arm(outcomes)
    baseline_name, baseline = next(iter(arms.items()))
    figure = new_figure(9, 1.6 + max(2.6, 0.3 * len(arms)))
    losses, scores, changes = figure.subplots(1, 3)
    colors = dict(zip(arms, COLORS * len(arms), strict=False))
    styles = dict(zip(arms, [s for s in ("-", "--", ":", "-.") for _ in COLORS] * 9, strict=False))
    for i, (name, arm) in enumerate(arms.items()):
        for panel, key in zip((losses, scores), CURVES, strict=True):
            x, y = _curve(arm, key)
            look = {"color": colors[name], "linestyle": styles[name], "marker": "osD^v*"[i % 6]}
            panel.plot(x, y, label=safe.label(name), markersize=4, **look)
    losses.set_title("training loss", loc="left", fontsize=10)
    scores.set_title("mAP on the validation images", loc="left", fontsize=10)
    changes.set_title(f"ΔAP against {safe.label(baseline_name)}", loc="left", fontsize=10)
    others = [name for name in arms if name != baseline_name]
    for row, name in enumerate(others):
        arm = arms[name]
        dots = [
            (one.evaluation.overall["AP"] or 0.0) - (baseline[seed].evaluation.overall["AP"] or 0.0)
            for seed, one in arm.items()
            if seed in baseline
        ]
        changes.plot(dots, [row] * len(dots), "o", color=colors[name], markersize=4, alpha=0.6)
        found = difference(arm, baseline, "AP")
        if found is not None:
            half = found.half or 0.0
            changes.errorbar(found.mean, row, xerr=half, fmt="|", color="black", capsize=3)
    changes.locator_params(axis="x", nbins=4)
    changes.axvline(0, color="black", linewidth=1)
    changes.set_yticks(range(len(others)), list(map(safe.label, others)))
    changes.set_ylim(max(len(others), 1) - 0.5, -0.5)  # also of the first arm alone
    epochs = max(len(one.history["epoch"]) for one in outcomes)
    for panel in (losses, scores):
        panel.set_xlabel("epoch")
        panel.set_xlim(0.5, epochs + 0.5)  # also where a single epoch was evaluated
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    scores.set_ylim(0, 1.05 * scores.get_ylim()[1])
    for panel in (losses, scores, changes):
        open_sides(panel)
    handles, labels = losses.get_legend_handles_labels()
    columns = min(len(labels), 6)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _curve(arm: dict[int, RunResult], key: str) -> tuple[list[float], list[float]]:
    """Epochs and means over seeds, where all seeds have a number."""
    rows = zip(*(one.history[key] for one in arm.values()), strict=False)
    points = [
        (float(epoch), float(np.mean([value for value in row if value is not None])))
        for epoch, row in enumerate(rows, start=1)
        if None not in row
    ]
    return [x for x, _ in points], [y for _, y in points]
