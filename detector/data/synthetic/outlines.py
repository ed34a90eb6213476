"""The outlines of the classes, and of what only looks like one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.data.dataset import Flags
from detector.data.synthetic.planes import Plane


@dataclass(frozen=True)
class Outline:
    """A shape in a plane of its own, within about -1 to 1, y downwards."""

    inside: Callable[[Plane, Plane], Flags]
    # Circles (x, y, radius), corners being circles of radius 0, whose hull is the shape's hull.
    hull: tuple[tuple[float, float, float], ...]


def _corners(*points: tuple[float, float]) -> tuple[tuple[float, float, float], ...]:
    return tuple((x, y, 0.0) for x, y in points)


def _mirrored(x: float, y: float) -> tuple[tuple[float, float, float], ...]:
    return _corners((x, y), (-x, y), (x, -y), (-x, -y))


# Functions that have a name, as worker processes get the outlines by it.
def _disc(u: Plane, v: Plane) -> Flags:
    return u * u + v * v <= 1


def _square(u: Plane, v: Plane) -> Flags:
    return (np.abs(u) <= 1) & (np.abs(v) <= 1)


def _triangle(u: Plane, v: Plane) -> Flags:
    return (v <= 0.5) & (1.7320508 * np.abs(u) <= v + 1)


# Unit vectors to the tips of an upright five-pointed star.
_TIPS = (
    (0.0, -1.0), (0.95105652, -0.30901699), (0.58778525, 0.80901699),
    (-0.58778525, 0.80901699), (-0.95105652, -0.30901699),
)  # fmt: skip


def _star(u: Plane, v: Plane) -> Flags:
    # Within four or five of the lines that make a pentagram; each is perpendicular to a tip.
    within = [(x * u + y * v <= 0.30901699).astype(np.uint8) for x, y in _TIPS]
    return within[0] + within[1] + within[2] + within[3] + within[4] >= 4


def _cross(u: Plane, v: Plane) -> Flags:
    u, v = np.abs(u), np.abs(v)
    return ((u <= 0.33) & (v <= 1)) | ((v <= 0.33) & (u <= 1))


def _ring(u: Plane, v: Plane) -> Flags:
    square = u * u + v * v
    return (square <= 1) & (square >= 0.3)


def _crescent(u: Plane, v: Plane) -> Flags:
    return (u * u + v * v <= 1) & ((u - 0.5) * (u - 0.5) + v * v >= 0.64)


def _crescent_arc() -> tuple[tuple[float, float, float], ...]:
    # The two circles meet at u = (1 - 0.64 + 0.25) / (2 * 0.5) = 0.61; the rest of the outer one.
    points = []
    for step in range(-16, 17):
        t = step / 16 * 2.0319  # tan(a / 2) with cos(a) = -0.61
        points.append(((t * t - 1) / (1 + t * t), 2 * t / (1 + t * t)))
    return _corners(*points)


def _heart(u: Plane, v: Plane) -> Flags:
    u = np.abs(u)
    return (u + np.abs(v) <= 1) | ((u - 0.5) * (u - 0.5) + (v + 0.5) * (v + 0.5) <= 0.5)


def _bar(u: Plane, v: Plane) -> Flags:
    return (np.abs(u) <= 0.99) & (np.abs(v) <= 0.1)


def _arc(u: Plane, v: Plane) -> Flags:
    return _ring(u, v) & (u >= 0) & (v >= 0)


def _bracket(u: Plane, v: Plane) -> Flags:
    return _square(u, v) & ((u <= -0.5) | (v >= 0.5))


CLASSES = (
    Outline(_disc, ((0, 0, 1),)),
    Outline(_square, _mirrored(1, 1)),
    Outline(_triangle, _corners((0, -1), (0.8660254, 0.5), (-0.8660254, 0.5))),
    Outline(_star, _corners(*_TIPS)),
    Outline(_cross, _mirrored(0.33, 1) + _mirrored(1, 0.33)),
    Outline(_ring, ((0, 0, 1),)),
    Outline(_crescent, _crescent_arc()),
    Outline(_heart, ((0.5, -0.5, 0.70710678), (-0.5, -0.5, 0.70710678), (0, 1, 0))),
)
# No box is asked of them: circles around them will do.
DISTRACTORS = (
    Outline(_bar, ((0, 0, 1),)),
    Outline(_arc, ((0, 0, 1),)),
    Outline(_bracket, ((0, 0, 1.41421356),)),
)
