"""Pixel planes, and windows of pixels with the coordinates in them."""

from math import ceil, floor

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]  # (h, w); coordinates are (1, w) and (h, 1)
Planes = npt.NDArray[np.float32]  # (3, h, w), 0 to 255
Box = tuple[float, float, float, float]


def pixels(box: Box) -> tuple[int, int, int, int]:
    """The window of whole pixels around a box."""
    return floor(box[0]), floor(box[1]), ceil(box[2]), ceil(box[3])


def clipped(box: Box, size: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (min(max(edge, 0), size) for edge in pixels(box))
    return x0, y0, x1, y1


def centers(x0: int, y0: int, x1: int, y1: int, samples: int = 1) -> tuple[Plane, Plane]:
    """(1, w) and (h, 1) coordinates of the samples of a window."""

    def axis(start: int, end: int) -> Plane:
        steps = np.arange((end - start) * samples, dtype=np.float32)
        return start + (steps + np.float32(0.5)) / np.float32(samples)

    return axis(x0, x1)[None, :], axis(y0, y1)[:, None]
