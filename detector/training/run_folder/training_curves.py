"""The figure of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.disk.atomic import new_stream

Values = Sequence[float | None]


def draw_curves(history: Mapping[str, Values], path: Path) -> None:
    """Loss, and every mAP or accuracy, over the epochs, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    score = "accuracy" if any("accuracy" in name for name in history) else "mAP"
    for axes, title in ((left, "training loss"), (right, score)):
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    epochs = [value for value in history["epoch"] if value is not None]
    for axes in (left, right):
        axes.set_xlim(0.5, len(epochs) + 0.5)  # also where a single epoch was trained
    for name, values in history.items():
        points = [(x, y) for x, y in zip(epochs, values, strict=True) if y is not None]
        if not points:
            continue
        if name == "train_loss":
            left.plot(*zip(*points, strict=True), marker="o", markersize=3)
        elif score in name:
            label = name.replace("_mAP_50_95", " mAP").replace("_mAP_50", " mAP50")
            right.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    if right.lines:
        right.set_ylim(bottom=0)
        right.legend(frameon=False)
    with new_stream(path, overwrite=True) as file:
        figure.savefig(file, dpi=110, format="png")
