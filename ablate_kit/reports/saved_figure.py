"""A figure, and that as files: the same bytes for the same figure."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ablate_kit import text as safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# For slides, pages and papers. Figures are laid out for the first, which has the most pixels to an
# inch: for fewer, letters are measured too narrow, and long names would be cut off in it.
KINDS = ("png", "svg", "pdf")
DPI = 150
# White and black that stay: the pure ones follow the reader's theme on a page (html.py).
NEAR_WHITE, NEAR_BLACK = "#fefefe", "#010101"
_DATED = {"png": ("Software",), "svg": ("Date",), "pdf": ("CreationDate", "Creator", "Producer")}


def new_figure(width: float, height: float) -> "Figure":
    """An empty one, in inches, that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    class LaidOut(Figure):
        laid_out = False

        def draw(self, renderer: Any) -> None:
            """Before each drawing that it keeps, matplotlib makes one that it throws away, of which
            no more is needed than the layout, and that once."""
            layout = self.get_layout_engine()
            if isinstance(layout, ConstrainedLayoutEngine):
                if not self.laid_out:
                    layout.execute(self)
                self.laid_out = True
            else:
                super().draw(renderer)

    figure = LaidOut(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def open_sides(panel: "Axes", grid: Literal["both", "x", "y"] = "both") -> None:
    """A panel with a faint grid, and without a frame above and to the right."""
    panel.grid(axis=grid, color="0.9")
    panel.spines[["top", "right"]].set_visible(False)


def rows_of_changes(names: "Sequence[str]", axis: str) -> "tuple[Figure, Axes]":
    """A row for each name, from the top on, and a line where nothing changes."""
    figure = new_figure(6.8, 1.2 + 0.22 * len(names))
    panel = figure.subplots()
    panel.axvline(0, color="black", linewidth=1)
    panel.set_yticks(range(len(names)), list(map(safe.label, names)), fontsize=8)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlabel(axis)
    open_sides(panel, "x")
    return figure, panel


def mark_change(
    panel: "Axes",
    row: int,
    change: float,
    ends: tuple[float | None, float | None],
    color: str,
    *,
    significant: bool,
) -> None:
    """A change with its interval, where it has one: filled and in ``color`` where significant, else
    hollow and gray, so that the two are told apart in print without colors."""
    color = color if significant else "0.55"
    low, high = ends
    if low is not None and high is not None:
        panel.plot([low, high], [row, row], color=color, linewidth=2)
    inside = color if significant else "white"
    panel.plot(change, row, "o", color=color, markerfacecolor=inside, markersize=5)


def drawn(figure: "Figure") -> dict[str, bytes]:
    """Of each of ``KINDS`` the file."""
    import matplotlib as mpl

    files = {}
    # Journals refuse PDF files with the fonts of matplotlib's default, type 3.
    with mpl.rc_context({"svg.hashsalt": "ablate", "svg.fonttype": "path", "pdf.fonttype": 42}):
        for kind in KINDS:
            file = BytesIO()
            # Or there are a date in it, and names of its shapes that are drawn at random.
            metadata = dict.fromkeys(_DATED[kind])
            figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
            files[kind] = file.getvalue()
    return files


def save_figure(figure: "Figure", place: Path) -> None:
    """Writes a file of each of ``KINDS``, which is the suffix that ``place`` gets."""
    for kind, content in drawn(figure).items():
        place.with_name(f"{place.name}.{kind}").write_bytes(content)
