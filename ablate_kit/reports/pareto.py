"""Which of several choices are not beaten by another one on both counts."""

from collections.abc import Sequence

# It is of estimates, of which many may be ahead by chance.
FRONT_IN_A_FIGURE = "Pareto front, whatever the intervals"


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
