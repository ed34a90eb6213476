"""Boxes as YOLO writes them, labels and detections alike."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Pixels are whole multiples of this: then corners and sizes are both exact, and a file of either
# gives back the same box. The six digits of a label tell a hundredth of a pixel, or less.
GRID = 2.0**-20


def corners(centers: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
    """(n, 4) center and size, as shares of images of ``size`` (2) or (n, 2), as xyxy in pixels."""
    pixels = (
        np.asarray(centers, dtype=np.float64).reshape(-1, 2, 2) * np.asarray(size)[..., None, :]
    )
    center, half = pixels[:, 0], pixels[:, 1] / 2
    return on_grid(np.concatenate([center - half, center + half], axis=1))


def on_grid(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.rint(pixels / GRID) * GRID
