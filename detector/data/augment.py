"""Random changes of a training image together with its boxes."""

import numpy as np

from detector.data.dataset import Floats, Pixels


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
