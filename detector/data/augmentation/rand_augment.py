"""RandAugment (Cubuk et al. 2020): a few random operations of one fixed strength."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

STRONGEST = 30  # magnitudes are 0 to 30

Operation = Callable[[Image.Image, float], Image.Image]
_NEAREST, _AFFINE = Image.Resampling.NEAREST, Image.Transform.AFFINE


def rand_augment(
    image: Image.Image, operations: int, magnitude: int, generator: np.random.Generator
) -> Image.Image:
    """``operations`` of the fourteen below one after the other, each drawn anew.

    Magnitude m is the share m / 30 of each operation's full strength. Shears, shifts, rotations
    and enhancements go either way with equal probability. What comes in from outside is black.
    """
    share = magnitude / STRONGEST
    for _ in range(operations):
        operation = OPERATIONS[generator.integers(len(OPERATIONS))]
        sign = 1.0 if generator.random() < 0.5 else -1.0
        image = operation(image, sign * share)
    return image


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    """Output pixel (x, y) shows input (a x + b y + c, d x + e y + f)."""
    return image.transform(image.size, _AFFINE, matrix, _NEAREST)


def _enhanced(kind: type) -> Operation:
    return lambda image, share: kind(image).enhance(1 + 0.9 * share)


OPERATIONS: tuple[Operation, ...] = (
    lambda image, _: image,
    # Shear x and y, shift x and y, rotate.
    lambda image, share: _affine(image, 1, 0.3 * share, 0, 0, 1, 0),
    lambda image, share: _affine(image, 1, 0, 0, 0.3 * share, 1, 0),
    lambda image, share: _affine(image, 1, 0, round(150 / 331 * image.width * share), 0, 1, 0),
    lambda image, share: _affine(image, 1, 0, 0, 0, 1, round(150 / 331 * image.height * share)),
    lambda image, share: image.rotate(30 * share, _NEAREST),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Sharpness),
    lambda image, share: ImageOps.posterize(image, 8 - round(4 * abs(share))),
    lambda image, share: ImageOps.solarize(image, round(255 * (1 - abs(share)))),
    lambda image, _: ImageOps.autocontrast(image),
    lambda image, _: ImageOps.equalize(image),
)
