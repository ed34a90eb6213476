"""Batches for a classifier: a function of the seed, the epoch and the position in it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from detector.data.classification import LabeledImages
from detector.data.dataset import Pixels
from detector.data.training_set import Key

# First words of the seeds; those of detector.data.training_set are 1 to 6.
_ITEM, _MIX = 7, 8

Item = tuple[Tensor, int]
Batch = tuple[Tensor, Tensor]  # (B, 3, S, S) images and (B,) labels
Transform = Callable[[Pixels, np.random.Generator], Tensor]


class TransformedImages(TorchDataset[Item]):
    """Images as network input, each with its class. Keys are ``(epoch, index)``.

    What is random about an item follows from (seed, epoch, index) alone.
    """

    def __init__(self, images: LabeledImages, transform: Transform, seed: int = 0) -> None:
        self._images = images
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key[0], key[1]
        generator = np.random.default_rng((_ITEM, self._seed, epoch, index))
        return self._transform(self._images.image(index), generator), self._images.label(index)


def collate(items: Sequence[Item]) -> Batch:
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def mix(
    images: Tensor,
    targets: Tensor,
    probability: float,
    mixup: float,
    cutmix: float,
    generator: np.random.Generator,
) -> Batch:
    """The batch mixed with itself in reverse order, by mixup or cutmix, or left as it is.

    Mixup (Zhang et al. 2018) blends the images, share * x + (1 - share) * reversed x; cutmix (Yun
    et al. 2019) puts a rectangle of 1 - share of the area from the other image in, and the share
    is corrected where the edge cuts it. The targets are blended alike. One share per batch.

    Args:
        images: (B, 3, H, W).
        targets: (B, C) class probabilities.
        probability: of mixing at all.
        mixup: of the Beta(a, a) that the share comes from; 0 leaves mixup out.
        cutmix: the same for cutmix; with both, each has probability 1/2.
    """
    if generator.random() >= probability:
        return images, targets
    cut = generator.random() < 0.5 if mixup and cutmix else cutmix > 0
    alpha = cutmix if cut else mixup
    share = float(generator.beta(alpha, alpha))
    other = images.flip(0)
    if cut:
        _, _, height, width = images.shape
        top, bottom, left, right = _rectangle(height, width, share, generator)
        images = images.clone()
        images[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        images = share * images + (1 - share) * other
    return images, share * targets + (1 - share) * targets.flip(0)


def mixing_generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    return np.random.default_rng((_MIX, seed, epoch, batch))


def _rectangle(
    height: int, width: int, share: float, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, bottom, left, right; its sides are sqrt(1 - share) of the image's, its center anywhere
    in it."""
    side = (1 - share) ** 0.5
    h, w = int(height * side), int(width * side)
    y, x = int(generator.integers(height)), int(generator.integers(width))
    top, left = y - h // 2, x - w // 2
    return max(top, 0), min(top + h, height), max(left, 0), min(left + w, width)
