"""Random and fixed ways from an image of any size to a classifier's input.

Kornia and torchvision offer these, but draw from torch's global generator; here each draw comes
from the generator that is given, and Pillow does the pixels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from detector.data.augmentation.letterbox import normalize
from detector.data.augmentation.rand_augment import rand_augment
from detector.data.dataset import Pixels

RATIO = 3 / 4, 4 / 3  # of a crop's width over its height
ERASED_AREA, ERASED_RATIO = (0.02, 0.2), (0.3, 3.3)
ATTEMPTS = 10  # at a crop, or an erased rectangle, that fits

_BILINEAR, _MIRROR = Image.Resampling.BILINEAR, Image.Transpose.FLIP_LEFT_RIGHT


@dataclass(frozen=True)
class Augment:
    """A training image: random crop, flip, RandAugment, colors, normalization, erasing."""

    size: int  # side of the square result, pixels
    area: tuple[float, float] = (0.08, 1.0)  # of a crop, as a share of the image's
    flip: float = 0.5  # probability
    randaugment: tuple[int, int] | None = (2, 9)  # operations, magnitude of 30
    jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.4, 0.1)  # see color_jitter
    erase: float = 0.2  # probability

    def __call__(self, pixels: Pixels, generator: np.random.Generator) -> Tensor:
        """(height, width, 3) to a normalized (3, size, size) float32 image."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        box = random_crop(image.width, image.height, self.area, generator)
        image = image.crop(box).resize((self.size, self.size), _BILINEAR)
        if generator.random() < self.flip:
            image = image.transpose(_MIRROR)
        if self.randaugment:
            image = rand_augment(image, *self.randaugment, generator)
        if self.jitter:
            image = color_jitter(image, self.jitter, generator)
        out = _tensor(image)
        if generator.random() < self.erase:
            erase(out, generator)
        return out


@dataclass(frozen=True)
class CenterCrop:
    """An image to evaluate: shorter side to ``resize`` pixels, then the middle square."""

    size: int
    resize: int  # at least size

    def __call__(self, pixels: Pixels, generator: np.random.Generator | None = None) -> Tensor:
        """(height, width, 3) to a normalized (3, size, size) float32 image; draws nothing."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        scale = self.resize / min(image.size)
        width, height = (max(self.resize, round(side * scale)) for side in image.size)
        image = image.resize((width, height), _BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return _tensor(image.crop((left, top, left + self.size, top + self.size)))


def random_crop(
    width: int, height: int, area: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) of random area, ratio and place (Szegedy et al. 2015).

    Where none fits in ten attempts, the largest box of an allowed ratio in the middle.
    """
    for _ in range(ATTEMPTS):
        w, h = _rectangle(width * height, area, RATIO, generator)
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w + 1))
            top = int(generator.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def color_jitter(
    image: Image.Image, strengths: tuple[float, float, float, float], generator: np.random.Generator
) -> Image.Image:
    """Brightness, contrast, saturation and hue in random order.

    The first three are multiplied by uniform factors from 1 - strength to 1 + strength, hue is
    turned by up to its strength of the color circle either way.
    """
    amounts = generator.uniform(-1, 1, 4) * strengths
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind in generator.permutation(4):
        if kind < 3:
            image = enhancers[kind](image).enhance(1 + float(amounts[kind]))
        else:
            image = _turned(image, float(amounts[3]))
    return image


def erase(image: Tensor, generator: np.random.Generator) -> None:
    """Fills a random rectangle of a (3, H, W) image with normal noise, in place.

    Zhong et al. 2020; where none fits in ten attempts, nothing.
    """
    _, height, width = image.shape
    for _ in range(ATTEMPTS):
        w, h = _rectangle(width * height, ERASED_AREA, ERASED_RATIO, generator)
        if 0 < w < width and 0 < h < height:
            left, top = generator.integers(width - w + 1), generator.integers(height - h + 1)
            noise = generator.standard_normal((3, h, w), dtype=np.float32)
            image[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return


def _rectangle(
    whole: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[int, int]:
    """Width and height: a uniform share of the area ``whole``, a log-uniform ratio."""
    pixels = whole * generator.uniform(*area)
    shape = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))


def _turned(image: Image.Image, share: float) -> Image.Image:
    """The image with its hue turned by a share of the color circle, in 256 steps."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(round(share * 255) % 256)  # wraps around, as hues do
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return normalize(pixels.float().div_(255)).contiguous()
