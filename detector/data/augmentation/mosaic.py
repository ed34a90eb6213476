"""Four images as the quarters of one: more, smaller and cut objects in one training image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from detector.data.dataset import Floats, Integers, Pixels, box_areas

_CENTER = (0.3, 0.7)  # where the four meet, as shares of the side
_LEAST_VISIBLE = 0.3  # of a box's area; an object of which less is left is no target any more


@dataclass(frozen=True, eq=False)
class MosaicTile:
    """A (height, width, 3) RGB image with its (n, 4) xyxy pixel boxes and their (n,) labels."""

    image: Pixels
    boxes: Floats
    labels: Integers


def mosaic(pictures: Sequence[MosaicTile], size: int, generator: np.random.Generator) -> MosaicTile:
    """A square image of side ``size`` made of four, met at a random point around its middle.

    Each image covers its quarter: scaled with its aspect ratio kept until the shorter side
    (relative to the quarter's) fits, of the other a random part. Boxes are clipped to what is
    seen; objects of which less than 30 % of the box is seen are left out.
    """
    low, high = _CENTER
    x, y = (round(size * float(share)) for share in generator.uniform(low, high, 2))
    quarters = ((0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size))
    canvas = np.empty((size, size, 3), np.uint8)
    boxes, labels = [], []
    for picture, quarter in zip(pictures, quarters, strict=True):
        left, top, right, bottom = quarter
        window = _window(picture.image, right - left, bottom - top, generator)
        canvas[top:bottom, left:right] = _cut(picture.image, window, right - left, bottom - top)
        placed, kept = _placed(picture.boxes, window, quarter)
        boxes.append(placed[kept])
        labels.append(picture.labels[kept])
    return MosaicTile(canvas, np.concatenate(boxes), np.concatenate(labels))


Window = tuple[float, float, float, float]  # xyxy in pixels of the image


def _window(image: Pixels, width: int, height: int, generator: np.random.Generator) -> Window:
    """The largest part of an image with the shape of a quarter, where chance puts it."""
    side_y, side_x = image.shape[:2]
    scale = max(width / side_x, height / side_y)
    # Not above the side: 3 / (3 / 7) may come out as 7.000000000000001.
    wide, high = min(width / scale, side_x), min(height / scale, side_y)
    left = (side_x - wide) * float(generator.random())
    top = (side_y - high) * float(generator.random())
    return left, top, left + wide, top + high


def _cut(image: Pixels, window: Window, width: int, height: int) -> Pixels:
    right, bottom = min(window[2], image.shape[1]), min(window[3], image.shape[0])
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.array(
        picture.resize(
            (width, height), Image.Resampling.BILINEAR, box=(window[0], window[1], right, bottom)
        )
    )


def _placed(
    boxes: Floats, window: Window, quarter: tuple[int, int, int, int]
) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Boxes of an image where its window is seen in the quarter, clipped, and which to keep."""
    left, top, right, bottom = quarter
    scale = (right - left) / (window[2] - window[0]), (bottom - top) / (window[3] - window[1])
    moved = (boxes - window[:2] * 2) * (scale * 2) + (left, top, left, top)
    seen = moved.clip((left, top, left, top), (right, bottom, right, bottom))
    area = box_areas(moved)
    return seen, (area > 0) & (box_areas(seen) >= _LEAST_VISIBLE * area)
