"""Pictures of a sweep: what matters, where it sits, how it adds up, and for which classes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablate_kit import text as safe
from ablate_kit.metrics.headline import DRAWN, Metric
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.saved_figure import (
    NEAR_BLACK,
    NEAR_WHITE,
    mark_change,
    new_figure,
    open_sides,
    rows_of_changes,
)

Matrix = NDArray[np.float64]
Marks = NDArray[np.bool_]

RANKED = 40  # variants in the ranking
CLASSES_OF = 25  # variants in the picture of classes
NUMBERED = 10  # classes: so few leave room for the number in each cell
_BESIDE = 0.008  # of the axis: how far an interval is drawn from that of the next curve
MOST_CLASSES = 100  # a figure of some thousand is more than can be drawn
_ALONE = " Upright: the 95 % interval of a variant's change, of that one alone."
_REPEATS = "Mean and, shaded, range over repeats with other random draws."
_DONOR = (
    f"More and more modules of the donor put in, from the first on and from the last on.{_ALONE}"
)
_LINE = f"The line from the first model (alpha 0) to the donor (1), and beyond.{_ALONE}"
_LAYERS = f"A part of more and more layers removed, from the first.{_ALONE}"
_ORDERS = (
    "shapley"  # first parts of random orders: their names are digests, their sum has a picture
)
_HEADS = {"heads": "removed", "heads-mean": "at its mean"}
SERIES = ("target", "order", "protocol")  # factors that variants of one curve agree in


def figures(
    results: Sequence[Result],
    changes: Sequence[Changes],
    by_class: Sequence[Sequence[Change]],
    *,
    curves: bool = True,
) -> Iterator[tuple[str, str, Figure]]:
    """File name, caption and figure of each picture that these results allow.

    Args:
        results: the unmodified model, then the variants.
        changes: of each variant, by metric.
        by_class: each variant's change of AP, in the order of the classes that have objects.
        curves: whether numbers of variants may be joined, which have seen the same images then.
    """
    rows = list(zip(results[1:], changes, strict=True))
    joined = results[0], rows if curves else []
    yield "ranking", *_ranking(rows)
    for name, caption, figure in (
        ("heads", *_heads(rows)),
        ("percentages", _REPEATS, _curves(*joined, "percent", "share cut, %")),
        ("cumulative", _REPEATS, _curves(*joined, "count", "heads removed")),
        ("layers", _LAYERS, _curves(*joined, "layers", "layers without it", "progressive")),
        ("donor", _DONOR, _curves(*joined, "modules", "modules of the donor")),
        ("line", _LINE, _curves(*joined, "alpha", "alpha")),
        ("classes", *_classes(results, changes, by_class)),
    ):
        if figure is not None:
            yield name, caption, figure


def by_itself(result: Result) -> bool:
    """Whether a variant is to be looked at alone: no random control, no part of a random order."""
    return not result.is_control and result.kind != _ORDERS


def _ranking(rows: Sequence[tuple[Result, Changes]]) -> tuple[str, Figure]:
    controls: dict[str, list[float]] = {}
    for result, change in rows:
        if "control_of" in result.factors and change["AP"].change is not None:
            of = str(result.factors["control_of"])
            controls.setdefault(of, []).append(change["AP"].change)
    own = [one for one in rows if by_itself(one[0]) and one[1]["AP"].change is not None]
    own.sort(key=lambda one: one[1]["AP"].change or 0.0)
    shown = own[:RANKED]
    names = [result.name for result, _ in shown]
    figure, panel = rows_of_changes(names, "change of AP, with its 95 % interval")
    for y, (result, change) in enumerate(shown):
        ap = change["AP"]
        ends = ap.low, ap.high
        mark_change(panel, y, ap.change or 0.0, ends, COLORS[1], significant=ap.significant)
        points = controls.get(result.name, [])
        panel.plot(points, [y] * len(points), "|", color=COLORS[0], markersize=9)
    more = f" ({len(own)} variants; the {RANKED} largest losses)" if len(own) > RANKED else ""
    marks = "; blue strokes: random controls of the same size" if controls else ""
    told = (
        f"What costs most on these images{more}. Filled, orange: significant, adjusted for all "
        f"variants; an interval is of its variant alone, and the first of several that cost alike "
        f"costs less on other images{marks}."
    )
    return told, figure


def _heads(rows: Sequence[tuple[Result, Changes]]) -> tuple[str, Figure | None]:
    found: dict[str, dict[float, Change]] = {}
    kinds = set()
    for result, change in rows:
        head, own = _number(result, "head"), change["AP"]
        if result.kind in _HEADS and head is not None and own.change is not None:
            heads = found.setdefault(str(result.factors.get("module", "")), {})
            if head not in heads:  # a study cuts some of them in a second way, later
                heads[head] = own
                kinds.add(result.kind)
    if not found:
        return "", None
    columns = sorted({head for heads in found.values() for head in heads})
    cells = [[heads.get(one) for one in columns] for heads in found.values()]
    labels = [f"{head:g}" for head in columns]
    figure = heat_map(*_values(cells), list(found), labels, "head", numbers=True)
    cut = " or ".join(told for kind, told in _HEADS.items() if kind in kinds)
    told = f"Change of AP with each head {cut}: rows are attention modules."
    return f"{told} *: significant, adjusted for all variants.", figure


def _values(cells: Sequence[Sequence[Change | None]]) -> tuple[Matrix, Marks]:
    """The changes, NaN where there is none, and which are significant."""
    changes = [
        [np.nan if c is None or c.change is None else c.change for c in row] for row in cells
    ]
    marks = [[c is not None and c.significant for c in row] for row in cells]
    return np.array(changes, dtype=np.float64), np.array(marks, dtype=np.bool_)


def _curves(
    unmodified: Result,
    rows: Sequence[tuple[Result, Changes]],
    factor: str,
    axis: str,
    mode: str | None = None,
) -> Figure | None:
    """A metric against a factor, a curve for each target; of variants of this ``mode``.

    Joint cuts are on none, though their members may agree in the factor.
    """
    found: dict[tuple[str, ...], dict[float, list[Point]]] = {}
    for result, change in rows:
        apart = not result.is_control and "member_1" not in result.factors
        at = _number(result, factor)
        if at is not None and apart and result.factors.get("mode") == mode:
            curve = tuple(str(result.factors.get(key, "")) for key in SERIES)
            found.setdefault(curve, {}).setdefault(at, []).append((result, change))
    if not any(len(points) > 1 for points in found.values()):
        return None
    alike = Counter(target for target, *_ in found)
    start: list[Point] = [(unmodified, None)]
    curves = {
        ", ".join(filter(None, curve[: None if alike[curve[0]] > 1 else 1])): {0.0: start, **points}
        for curve, points in found.items()
    }
    return _lines(curves, axis)


def _number(result: Result, factor: str) -> float | None:
    """A factor's value; None where it is none that a figure could show."""
    value = result.factors.get(factor)
    try:
        return None if value is None or isinstance(value, str) else float(value)
    except OverflowError:
        return None


Point = tuple[Result, Changes | None]  # a variant; the unmodified model has no changes


def _lines(curves: Mapping[str, Mapping[float, Sequence[Point]]], axis: str) -> Figure:
    figure = new_figure(9, 3.6 + 0.18 * len(curves))
    panels = figure.subplots(1, len(DRAWN))
    places = [at for points in curves.values() for at in points]
    beside = _BESIDE * (max(places) - min(places))  # or intervals of one place hide each other
    for panel, metric in zip(panels, DRAWN, strict=True):
        for i, (name, points) in enumerate(curves.items()):
            x = sorted(points)
            values = [
                [
                    value
                    for one, _ in points[at]
                    if (value := one.evaluation.overall[metric.key]) is not None
                ]
                for at in x
            ]
            x = [at for at, inside in zip(x, values, strict=True) if inside]
            values = [inside for inside in values if inside]
            # Of one color again there is another marker, and neighbors differ in both.
            marker = "osD^v*"[(i + i // len(COLORS)) % 6]
            style = {"color": COLORS[i % len(COLORS)], "marker": marker}
            panel.plot(
                x, [np.mean(one) for one in values], label=safe.label(name), markersize=4, **style
            )
            low, high = [min(one) for one in values], [max(one) for one in values]
            panel.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
            for at, inside in points.items():
                if len(inside) == 1 and (ends := _interval(*inside[0], metric)) is not None:
                    aside = beside * (i - (len(curves) - 1) / 2)
                    panel.vlines(at + aside, *ends, color=style["color"], linewidth=1.5)
        panel.set_xlabel(axis)
        panel.set_title(metric.label, fontsize=10)
        open_sides(panel)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False, fontsize=8)
    return figure


def _interval(one: Result, changes: Changes | None, of: Metric) -> tuple[float, float] | None:
    """That of a variant's change, around what it changed from."""
    value, change = one.evaluation.overall[of.key], changes[of.key] if changes else None
    if value is None or change is None or change.change is None:
        return None
    if change.low is None or change.high is None:
        return None
    before = value - change.change
    return of.between(before + change.low, before + change.high)


def _classes(
    results: Sequence[Result], changes: Sequence[Changes], by_class: Sequence[Sequence[Change]]
) -> tuple[str, Figure | None]:
    order = [i for i, one in enumerate(results[1:]) if by_itself(one)]
    order = sorted(order, key=lambda i: changes[i]["AP"].change or 0.0)[:CLASSES_OF]
    names = [name for name, row in results[0].evaluation.per_class.items() if row["support"]]
    matrix, marks = _values([by_class[i] for i in order])
    defined = np.flatnonzero(np.isfinite(matrix).any(axis=0)) if len(order) else np.zeros(0, int)
    if len(defined) < 2:
        return "", None
    caption = (
        "Change of each class's AP, for the variants that cost most on these images. *: "
        "significant, adjusted for the classes of its row alone."
    )
    if len(defined) > MOST_CLASSES:
        largest = np.nanmax(np.abs(matrix[:, defined]), axis=0)
        defined = np.sort(defined[np.argsort(-largest, kind="stable")[:MOST_CLASSES]])
        caption += f" The {MOST_CLASSES} classes that change most; all are in classes.csv."
    labels, columns = [results[1 + i].name for i in order], [names[i] for i in defined]
    few = len(defined) <= NUMBERED
    figure = heat_map(matrix[:, defined], marks[:, defined], labels, columns, "", numbers=few)
    return caption, figure


def heat_map(
    matrix: Matrix,
    marks: Marks,
    rows: Sequence[str],
    columns: Sequence[str],
    axis: str,
    *,
    numbers: bool,
    label: str = "change of AP",
) -> Figure:
    """Changes by row and column, around zero, with a star where ``marks`` has one; NaN is hatched,
    for white is next to nothing."""
    rows, columns = [*map(safe.label, rows)], [*map(safe.label, columns)]
    longest = max(map(len, columns))
    stands = not numbers or longest > 6  # or names would run into each other
    # Labels that stand upright take height: 0.7 inches of names that are not long; those of rows
    # take width, or next to nothing of it would be left for the cells.
    upright = max(0.7, 0.06 * longest) if stands else 0
    beside = max(3.2, 1.5 + 0.066 * max(map(len, rows)))
    wide = len(columns) * (0.55 if numbers else 0.2)
    figure = new_figure(max(5.0, beside + max(wide, 1.0)), 1.4 + 0.26 * len(rows) + upright)
    panel = figure.subplots()
    bound = float(np.nanmax(np.abs(matrix))) or 1.0
    panel.patch.set(hatch="////", edgecolor="0.8")
    image = panel.imshow(matrix, cmap="PuOr", vmin=-bound, vmax=bound, aspect="auto")
    panel.set_yticks(range(len(rows)), rows, fontsize=8)
    turn: dict[str, Any] = {"rotation": 90} if stands else {}
    panel.set_xticks(range(len(columns)), columns, fontsize=8 if numbers else 7, **turn)
    panel.set_xlabel(axis)
    for (i, j), value in np.ndenumerate(matrix):
        text = f"{100 * value:+z.1f}" if numbers else ""
        if np.isfinite(value) and (text := text + "*" * bool(marks[i, j])):
            color = NEAR_WHITE if abs(value) > 0.6 * bound else NEAR_BLACK
            panel.text(j, i, text, ha="center", va="center_baseline", fontsize=7, color=color)
    figure.colorbar(image, ax=panel, label=label + ("\n(cells: × 100)" if numbers else ""))
    return figure
