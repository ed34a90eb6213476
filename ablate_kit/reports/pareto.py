"""Which of several choices are not beaten by another one on both counts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def front(gains: Sequence[float | None], costs: Sequence[float]) -> list[bool]:
    """Whether there is no other with at least the gain at no more cost, and one of them better.

    What has no gain is never on it.
    """
    points = list(zip(gains, costs, strict=True))

    def beaten(gain: float, cost: float) -> bool:
        return any(
            g is not None and g >= gain and c <= cost and (g > gain or c < cost) for g, c in points
        )

    return [gain is not None and not beaten(gain, cost) for gain, cost in points]


def draw_front(panel: "Axes", points: Sequence[tuple[float, float]], steps: str) -> None:
    """A wide line through (cost, gain) of what is on it. It is of estimates, of which many may be
    ahead by chance."""
    if len(points) > 1:
        label = "Pareto front, whatever the intervals"
        x, y = zip(*sorted(points), strict=True)
        panel.plot(x, y, drawstyle=steps, color="0.75", linewidth=4, label=label, zorder=1)
