"""A figure, and that as a file: the same bytes for the same figure."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("svg", "png", "pdf")  # for pages, slides and papers
_DATED = {"png": ("Software",), "svg": ("Date",), "pdf": ("CreationDate", "Creator", "Producer")}


def new_figure(width: float, height: float) -> "Figure":
    """An empty one, in inches, that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", place: Path | BinaryIO, kind: str) -> None:
    """Writes ``figure`` as ``kind``: png, svg or pdf."""
    import matplotlib as mpl

    # Or there are a date in it, and names of its shapes that are drawn at random.
    metadata = dict.fromkeys(_DATED[kind])
    # Journals refuse PDF files with the fonts of matplotlib's default, type 3.
    with mpl.rc_context({"svg.hashsalt": "ablate", "svg.fonttype": "path", "pdf.fonttype": 42}):
        figure.savefig(place, format=kind, dpi=150, metadata=metadata)
