"""What object queries do: where each one's boxes lie, and where a variant moves them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ablate_kit import text as safe
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.saved_figure import new_figure

SLOTS = 20  # as in figure 7 of Carion et al. 2020
SMALL = 0.05  # share of the image's area
ACROSS, DOWN = 1.06, 1.2  # from a query's square to the next
CELLS = 8  # of the displacement field, along each side
ALIVE = 0.1  # share of the unmodified model's AP
# Small, wide and tall boxes, in colors that color-blind readers can tell apart.
SHAPES = (("small", COLORS[2]), ("large, wide", COLORS[1]), ("large, tall", COLORS[5]))

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Slots:
    """The best detection of each query on each image, in shares of the image's size."""

    # image, query: (n,) sorted by image, then query.
    image: NDArray[np.int64]
    query: NDArray[np.int64]
    # center, size: (n, 2) x and y, width and height.
    center: Floats
    size: Floats
    scores: Floats  # (n,)


@dataclass(frozen=True, eq=False)
class Moves:
    """Where a variant puts the boxes that the unmodified model finds."""

    center: Floats  # (n, 2) before, in shares of the image's size
    # (n, 2) how far the same query's box moved; NaN where it is no longer among the detections that
    # are kept of an image.
    by: Floats

    def numbers(self) -> dict[str, float | int | None]:
        """Of ``displacement.csv``: counts, and means in shares of the image's size."""
        kept = self.by[np.isfinite(self.by[:, 0])]
        far = np.hypot(*kept.T)
        x, y = kept.mean(axis=0).tolist() if len(kept) else (None, None)
        return {
            "boxes": len(self.by),
            "gone": len(self.by) - len(kept),
            "median_distance": float(np.median(far)) if len(far) else None,
            "mean_x": x,
            "mean_y": y,
        }


def slots(truth: GroundTruth, found: Detections) -> Slots | None:
    """None where the detections do not tell their queries, or an image not its size."""
    if found.queries is None or not (truth.widths.all() and truth.heights.all()):
        return None
    order = np.lexsort((-found.scores, found.queries, found.image))
    image, query = found.image[order], found.queries[order]
    best = np.ones(len(order), dtype=bool)
    best[1:] = (image[1:] != image[:-1]) | (query[1:] != query[:-1])
    order, image, query = order[best], image[best], query[best]
    extent = np.stack([truth.widths, truth.heights], axis=1)[image].astype(np.float64)
    boxes = found.boxes[order].astype(np.float64)
    return Slots(
        image.astype(np.int64),
        query.astype(np.int64),
        (boxes[:, :2] + boxes[:, 2:]) / 2 / extent,
        (boxes[:, 2:] - boxes[:, :2]) / extent,
        found.scores[order].astype(np.float64),
    )


def moves(before: Slots, after: Slots, threshold: float) -> Moves:
    """Of the boxes that score ``threshold`` or more before."""
    queries = 1 + max(before.query.max(initial=0), after.query.max(initial=0))
    counts = before.scores >= threshold
    wanted = before.image[counts] * queries + before.query[counts]
    there = after.image * queries + after.query
    at = np.searchsorted(there, wanted)
    known = at < len(there)
    known[known] = there[at[known]] == wanted[known]
    by = np.full((len(wanted), 2), np.nan)
    by[known] = after.center[at[known]] - before.center[counts][known]
    return Moves(before.center[counts], by)


def query_figure(found: Slots) -> tuple[str, Figure] | None:
    """Centers of the boxes of the queries that detect most often."""
    count = np.bincount(found.query)
    chosen = np.argsort(-count, kind="stable")[:SLOTS]
    chosen = np.sort(chosen[count[chosen] > 0])
    if not len(chosen):
        return None
    shape = np.where(found.size.prod(axis=1) < SMALL, 0, 1 + (found.size[:, 0] < found.size[:, 1]))
    columns = min(5, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(1.55 * columns, 1.7 * rows + 0.5)
    # All in one, a square for each query: axes of its own would take as long as the whole report.
    panel = figure.subplots()
    panel.set_axis_off()
    panel.set_aspect("equal")
    panel.set_xlim(-0.01, columns * ACROSS - ACROSS + 1.01)
    panel.set_ylim(rows * DOWN - DOWN + 1.01, -0.17)
    corners = np.array([(i % columns * ACROSS, i // columns * DOWN) for i in range(len(chosen))])
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0), (np.nan, np.nan)])
    frames = (corners[:, None] + square).reshape(-1, 2)
    panel.plot(*frames.T, color="black", linewidth=0.8, zorder=3)
    for (x, y), query in zip(corners.tolist(), chosen.tolist(), strict=True):
        panel.text(x + 0.5, y - 0.04, f"query {query}", fontsize=8, ha="center", va="bottom")
    place = np.searchsorted(chosen, found.query).clip(max=len(chosen) - 1)
    inside = ((found.center >= 0) & (found.center <= 1)).all(axis=1)
    shown = (chosen[place] == found.query) & inside
    for kind, (label, color) in enumerate(SHAPES):
        mine = shown & (shape == kind)
        dots = found.center[mine] + corners[place[mine]]
        # As pixels: a page with a hundred thousand vector points would not open on a phone.
        panel.plot(*dots.T, "o", color=color, markersize=3, markeredgewidth=0, alpha=0.8,
                   label=label, rasterized=True)  # fmt: skip
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False,
                  fontsize=8, markerscale=2)  # fmt: skip
    caption = (
        f"Where the unmodified model's queries put their boxes: a dot per image at the box's "
        f"center; the {len(chosen)} queries that detect most often (after figure 7 of Carion et "
        f"al. 2020). Small: less than {SMALL:.0%} of the image."
    )
    return caption, figure


def displacement_figure(moved: Mapping[str, Moves]) -> tuple[str, Figure] | None:
    """An arrow per part of the image: how the mean box there moves."""
    if not any(len(one.by) for one in moved.values()):
        return None
    columns = min(3, len(moved))
    rows = -(-len(moved) // columns)
    figure = new_figure(2.9 * columns, 3.1 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel, (name, one) in zip(panels, moved.items(), strict=False):
        _field(panel, one)
        numbers = one.numbers()
        distance = numbers["median_distance"]
        far = "none left" if distance is None else f"median {distance:.1%}"
        short = name if len(name) <= 40 else f"...{name[-37:]}"
        panel.set_title(f"{safe.label(short)}\n{far}, {numbers['gone']} gone", fontsize=7)
    for panel in panels[len(moved) :]:
        panel.set_visible(False)
    caption = (
        "How boxes move: arrows from where the unmodified model's boxes are, on average in each "
        "part of the image, to where the same query puts them in the variant. Title: median "
        "distance in shares of the image's size, and boxes whose query is no longer among the "
        "detections of its image; a cross where most of a part's boxes are. The costliest variants "
        "of each kind that keep a tenth of the AP. Where a model chooses its queries by the "
        "image, a cut before that choice renumbers them."
    )
    return caption, figure


def _field(panel: Axes, one: Moves) -> None:
    cell = np.clip((one.center * CELLS).astype(int), 0, CELLS - 1)
    flat = cell[:, 1] * CELLS + cell[:, 0]
    total = np.bincount(flat, minlength=CELLS**2)
    kept = np.isfinite(one.by[:, 0])
    left = np.bincount(flat[kept], minlength=CELLS**2)
    gone = np.flatnonzero(2 * left < total)
    middle = (gone % CELLS + 0.5) / CELLS, (gone // CELLS + 0.5) / CELLS
    panel.plot(*middle, "x", color=COLORS[1], markersize=5)
    there = np.flatnonzero(left)
    sums = [
        np.bincount(flat[kept], weights=values[kept], minlength=CELLS**2)[there] / left[there]
        for values in (*one.center.T, *one.by.T)
    ]
    panel.quiver(*sums, angles="xy", scale_units="xy", scale=1, width=0.008, color="black")
    panel.set_xlim(0, 1)
    panel.set_ylim(1, 0)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])


def costliest_of_each_kind(
    kinds: Sequence[str | None], values: Sequence[float | None], baseline: float | None, count: int
) -> list[int]:
    """Positions of ``count`` variants: the costliest of each kind, then the next of each.

    Of variants that hardly detect anything there is nothing to see: they come last.

    Args:
        kinds: of each; None for one that is not to be shown.
        values: AP of each.
        baseline: AP of the unmodified model.
    """
    order = [i for i in range(len(kinds)) if kinds[i] is not None and values[i] is not None]
    alive = [i for i in order if (values[i] or 0.0) >= ALIVE * (baseline or 0.0)]
    return [*_in_turns(kinds, values, alive), *(i for i in order if i not in set(alive))][:count]


def _in_turns(
    kinds: Sequence[str | None], values: Sequence[float | None], chosen: Sequence[int]
) -> list[int]:
    order = sorted(chosen, key=lambda i: values[i] or 0.0)
    turn: dict[str | None, int] = {}
    ranked = []
    for i in order:
        turn[kinds[i]] = turn.get(kinds[i], 0) + 1
        ranked.append((turn[kinds[i]], values[i], i))
    return [i for *_, i in sorted(ranked)]
