"""Random changes of a training image together with its boxes.

Each takes its own generator, so that switching one on leaves what the others draw as it was.
Images are (height, width, 3) RGB, boxes (n, 4) xyxy in pixels.
"""

import numpy as np
from PIL import Image, ImageEnhance

from detector.data.dataset import Floats, Pixels

_LEAST_SIDE = 0.3  # of a crop, as a share of the image's: objects appear up to 3.3 times as large
_HUE = 0.05  # largest turn at strength 1, as a share of the color circle


def flip(image: Pixels, boxes: Floats) -> tuple[Pixels, Floats]:
    """A (height, width, 3) image and its (n, 4) xyxy pixel boxes, mirrored left to right."""
    width = image.shape[1]
    mirrored = np.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    return image[:, ::-1], mirrored


def random_flip(
    image: Pixels, boxes: Floats, probability: float, generator: np.random.Generator
) -> tuple[Pixels, Floats]:
    """``flip`` with this probability; always takes one number from the generator."""
    return flip(image, boxes) if generator.random() < probability else (image, boxes)


def color(
    image: Pixels, brightness: float, contrast: float, saturation: float, hue: float
) -> Pixels:
    """An image with other colors, changed in the order of the arguments.

    The first three are factors, 1 for no change: all values from black; the distance from the
    mean luminance; the distance from each pixel's luminance. ``hue`` turns the color circle by
    this share of it, in steps of 1/256.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture = ImageEnhance.Brightness(picture).enhance(brightness)
    picture = ImageEnhance.Contrast(picture).enhance(contrast)
    picture = ImageEnhance.Color(picture).enhance(saturation)
    turn = round(hue * 256)
    if turn % 256:  # the way to HSV and back is not exact: not taken for nothing
        hsv = np.array(picture.convert("HSV"))
        hsv[..., 0] += np.uint8(turn % 256)
        picture = Image.fromarray(hsv, "HSV").convert("RGB")
    return np.array(picture)


def random_color(image: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """``color`` at random: strength 1 halves to doubles the three factors, 0 changes nothing.

    The factors are ``(1 + strength) ** u`` with u uniform in -1..1, so that stronger and weaker
    are as likely; the hue turns by up to 5 % of the circle times the strength.
    """
    draws = generator.uniform(-1, 1, 4)
    brightness, contrast, saturation = ((1 + strength) ** draws[:3]).tolist()
    return color(image, brightness, contrast, saturation, strength * _HUE * float(draws[3]))


def random_crop(
    image: Pixels, boxes: Floats, probability: float, generator: np.random.Generator
) -> tuple[Pixels, Floats]:
    """With this probability, a random window of the image that holds every box whole.

    Each edge lies on a whole pixel between the image's edge and the box nearest to it; no side
    is shorter than 30 % of the image's. What of a box lies outside the image holds nothing back.
    """
    if generator.random() >= probability:
        return image, boxes
    height, width = image.shape[:2]
    inside = boxes.clip(0, (width, height, width, height))
    inside = inside[(inside[:, 2:] > inside[:, :2]).all(axis=1)]
    left, right = _span(inside[:, 0], inside[:, 2], width, generator)
    top, bottom = _span(inside[:, 1], inside[:, 3], height, generator)
    return image[top:bottom, left:right], boxes - (left, top, left, top)


def _span(
    first: Floats, last: Floats, side: int, generator: np.random.Generator
) -> tuple[int, int]:
    """A stretch of whole pixels of ``side`` of them that holds all of ``first`` to ``last``."""
    least = max(1, round(_LEAST_SIDE * side))
    start = int(generator.integers(min(int(first.min(initial=side)), side - least) + 1))
    need = int(np.ceil(last.max(initial=0)))
    return start, int(generator.integers(max(need, start + least), side + 1))
