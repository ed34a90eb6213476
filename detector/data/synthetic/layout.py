"""Where the figures of an image lie."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from detector.data.dataset import Flags
from detector.data.synthetic.draws import Draws
from detector.data.synthetic.outlines import CLASSES, DISTRACTORS, Outline
from detector.data.synthetic.planes import Box, centers, pixels

SIDES = 0.15, 0.55  # longer side of an object's box, of the image's side
THINNEST = 12.0  # pixels of the shorter side, before the image's edge cuts
OBJECTS = 5  # at most, an image
DISTRACTING = 2
VISIBLE = 0.45  # least share of a figure that stays within the image and uncovered
ATTEMPTS = 20  # places tried for a figure before it is left out


@dataclass(frozen=True)
class Figure:
    """An outline at its place in the image."""

    label: int | None  # None: one of the distractors
    outline: Outline
    matrix: tuple[float, float, float, float]  # outline to pixels, row by row
    origin: tuple[float, float]  # of the outline, in pixels
    box: Box  # xyxy in pixels, not clipped

    def mask(self, x0: int, y0: int, x1: int, y1: int, samples: int = 1) -> Flags:
        """(h * samples, w * samples): which points of a window of pixels the figure covers."""
        x, y = centers(x0, y0, x1, y1, samples)
        x, y = x - np.float32(self.origin[0]), y - np.float32(self.origin[1])
        a, b, c, d = self.matrix
        det = a * d - b * c
        u = x * np.float32(d / det) - y * np.float32(b / det)
        v = y * np.float32(a / det) - x * np.float32(c / det)
        return self.outline.inside(u, v)


def layout(size: int, draws: Draws) -> list[Figure]:
    """Objects and distractors in painting order."""
    objects, distractors = 1 + draws.below(OBJECTS), draws.below(DISTRACTING + 1)
    figures: list[Figure] = []
    view = _View(size)
    while objects + distractors:
        if draws.below(objects + distractors) < objects:
            objects -= 1
            label = draws.below(len(CLASSES))
            outline = CLASSES[label]
        else:
            distractors -= 1
            label = None
            outline = DISTRACTORS[draws.below(len(DISTRACTORS))]
        for _ in range(ATTEMPTS):
            figure = _placed(label, outline, size, draws)
            if view.admits(figure):
                figures.append(figure)
                break
    return figures


class _View:
    """Which figure each pixel shows, as figures are laid over each other."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._shown = np.full((size, size), -1, dtype=np.int16)
        self._whole = np.zeros(0, dtype=np.int64)  # pixels of each, with those beyond the edge
        self._visible = np.zeros(0, dtype=np.int64)

    def admits(self, figure: Figure) -> bool:
        """Lay the figure on top, unless it or one below would then be hidden too much."""
        x0, y0, x1, y1 = pixels(figure.box)
        mask = figure.mask(x0, y0, x1, y1)
        within = mask[max(0, -y0) : self._size - y0, max(0, -x0) : self._size - x0]
        shown = self._shown[max(0, y0) : y1, max(0, x0) : x1]
        count = len(self._whole)
        covered = np.bincount(shown[within] + 1, minlength=count + 1)[1:]
        visible = np.append(self._visible - covered, np.count_nonzero(within))
        whole = np.append(self._whole, np.count_nonzero(mask))
        if (visible < VISIBLE * whole).any():
            return False
        shown[within] = count
        self._visible, self._whole = visible, whole
        return True


def _placed(label: int | None, outline: Outline, size: int, draws: Draws) -> Figure:
    cos, sin = draws.tilt()
    stretch = draws.between(0.65, 1)
    a, b, c, d = cos, -sin * stretch, sin, cos * stretch
    # A circle of radius r becomes an ellipse that reaches r * |row of the matrix| each way.
    reach_x, reach_y = sqrt(a * a + b * b), sqrt(c * c + d * d)
    left = min(a * x + b * y - r * reach_x for x, y, r in outline.hull)
    right = max(a * x + b * y + r * reach_x for x, y, r in outline.hull)
    top = min(c * x + d * y - r * reach_y for x, y, r in outline.hull)
    bottom = max(c * x + d * y + r * reach_y for x, y, r in outline.hull)
    width, height = right - left, bottom - top
    u = draws.between(0, 1)
    side = (SIDES[0] + (SIDES[1] - SIDES[0]) * u * (1 + u) / 2) * size  # more small than large
    scale = max(side / max(width, height), THINNEST / min(width, height))
    width, height = width * scale, height * scale
    x0 = draws.between(0.04, 0.96) * size - width / 2
    y0 = draws.between(0.04, 0.96) * size - height / 2
    return Figure(
        label=label,
        outline=outline,
        matrix=(a * scale, b * scale, c * scale, d * scale),
        origin=(x0 - left * scale, y0 - top * scale),
        box=(x0, y0, x0 + width, y0 + height),
    )
