"""Painting: planes of 0 to 255, in place."""

import numpy as np
import numpy.typing as npt

from detector.data.dataset import Pixels
from detector.data.synthetic.draws import Draws
from detector.data.synthetic.layout import Figure
from detector.data.synthetic.planes import Plane, Planes, centers, clipped

CONTRAST = 200  # least distance of a figure's color from what lies below: sum over R, G, B
COLORS = 20  # tried for a figure before one without that contrast is taken
DULL, VIVID = np.float32(0.3), np.float32(1)  # colors of the background and of figures
SAMPLES = 3  # per pixel and axis, for antialiasing


def background(size: int, draws: Draws) -> Planes:
    x, y = centers(0, 0, size, size)
    canvas = _field(size, 1 + draws.below(3), draws)
    for _ in range(draws.below(3)):  # regions with straight edges
        beyond = _signed_distance(x, y, size, draws) > 0
        color = _field(size, 1 + draws.below(3), draws)
        _blend(canvas, beyond * draws.fraction(0.4, 1), color)
    canvas += (_field(size, 8 + draws.below(17), draws) - 128) * draws.fraction(0.1, 0.3)
    canvas += _texture(x, y, size, draws) * (draws.color(DULL) - 128) * draws.fraction(0, 0.3)
    for _ in range(1 + draws.below(4)):
        _soft_blob(canvas, draws)
    for _ in range(1 + draws.below(4)):
        distance = np.abs(_signed_distance(x, y, size, draws))
        line = (np.float32(draws.between(0.002, 0.012) * size + 0.5) - distance).clip(0, 1)
        _blend(canvas, line * draws.fraction(0.4, 1), draws.color(DULL))
    return canvas


def _soft_blob(canvas: Planes, draws: Draws) -> None:
    size = canvas.shape[1]
    radius = draws.between(0.04, 0.2) * size
    x, y = draws.between(0, 1) * size, draws.between(0, 1) * size
    x0, y0, x1, y1 = clipped((x - radius, y - radius, x + radius, y + radius), size)
    u, v = centers(x0, y0, x1, y1)
    u, v = (u - np.float32(x)) / np.float32(radius), (v - np.float32(y)) / np.float32(radius)
    falloff = np.maximum(1 - (u * u + v * v), 0)
    _blend(canvas[:, y0:y1, x0:x1], falloff * draws.fraction(0.2, 0.7), draws.color(DULL))


def paint(canvas: Planes, figure: Figure, draws: Draws) -> None:
    size = canvas.shape[1]
    x0, y0, x1, y1 = clipped(figure.box, size)
    mask = figure.mask(x0, y0, x1, y1, SAMPLES).astype(np.float32)
    coverage = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    for row in range(SAMPLES):
        for column in range(SAMPLES):
            coverage += mask[row::SAMPLES, column::SAMPLES]
    below = canvas[:, y0:y1, x0:x1]
    mean = below.astype(np.int64).sum(axis=(1, 2)) // below[0].size  # integers: exact in any order
    first = draws.color(VIVID)
    for _ in range(COLORS):
        if np.abs(first[:, 0, 0] - mean).sum() >= CONTRAST:
            break
        first = draws.color(VIVID)
    second = draws.color(VIVID)
    texture = _texture(*centers(x0, y0, x1, y1), size, draws)
    _blend(
        below,
        coverage / np.float32(SAMPLES**2),
        first + (second - first) * texture * draws.fraction(0.2, 0.7),
    )


def photographed(canvas: Planes, draws: Draws) -> Pixels:
    """Exposure, sometimes blur, sensor noise; then bytes."""
    canvas = canvas * draws.fraction(0.75, 1.1) + draws.fraction(-15, 25)
    if draws.chance(0.4):
        middle = canvas[:, 1:-1] / 2 + (canvas[:, :-2] + canvas[:, 2:]) / 4
        canvas[:, 1:-1] = middle
        middle = canvas[:, :, 1:-1] / 2 + (canvas[:, :, :-2] + canvas[:, :, 2:]) / 4
        canvas[:, :, 1:-1] = middle
    canvas += (draws.bytes(*canvas.shape) - 128) * draws.fraction(0, 0.15)
    return np.ascontiguousarray(np.rint(canvas.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0))


def _blend(canvas: Planes, opacity: Plane, color: Planes) -> None:
    for plane, ink in zip(canvas, color, strict=True):  # by plane: temporaries stay in the cache
        plane += opacity * (ink - plane)


def _field(size: int, cells: int, draws: Draws) -> Planes:
    """Random colors on a grid of ``cells`` by ``cells``, interpolated between its knots."""
    knots = draws.palette(cells + 1, cells + 1, DULL)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size)
    knot = place.astype(np.int64)
    part = place - knot.astype(np.float32)
    rows = _between(knots, knot, part[:, None], axis=1)
    return _between(rows, knot, part, axis=2)


def _between(knots: Planes, knot: npt.NDArray[np.int64], part: Plane, axis: int) -> Planes:
    first = knots.take(knot, axis)
    return first + (knots.take(knot + 1, axis) - first) * part


def _texture(x: Plane, y: Plane, size: int, draws: Draws) -> Plane:
    """(h, w) in [0, 1]: plain, a gradient, stripes, checks, dots or noise."""
    kind = draws.below(6)
    cos, sin = draws.rotation()
    period = draws.between(0.03, 0.09) * size
    p = x * np.float32(cos / period) + y * np.float32(sin / period)
    q = y * np.float32(cos / period) - x * np.float32(sin / period)
    if kind == 0:
        return np.zeros_like(p)
    if kind == 1:
        return (p - p.min()) / (p.max() - p.min())
    if kind == 2:
        return np.floor(p) % 2
    if kind == 3:
        return (np.floor(p) + np.floor(q)) % 2
    if kind == 4:
        p, q = p - np.floor(p) - np.float32(0.5), q - np.floor(q) - np.float32(0.5)
        return (p * p + q * q < np.float32(0.1)).astype(np.float32)
    return draws.bytes(*p.shape) / np.float32(255)


def _signed_distance(x: Plane, y: Plane, size: int, draws: Draws) -> Plane:
    """(h, w) pixels to a random line through the image."""
    cos, sin = draws.rotation()
    x0, y0 = draws.fraction(0, 1) * size, draws.fraction(0, 1) * size
    return (x - x0) * np.float32(cos) + (y - y0) * np.float32(sin)
