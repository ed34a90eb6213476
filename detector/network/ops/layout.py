"""How a batch of maps lies in memory."""

import torch
from torch import Tensor


def by_pixels(images: Tensor) -> Tensor:
    """On a CPU, images whose pixels hold their channels side by side ("channels last").

    What is made of them lies the same way: convolutions, resizing, pooling and norms over channels
    are faster so, and tokens are views of maps. On a GPU nothing changes.
    """
    if images.device.type == "cpu":
        return images.contiguous(memory_format=torch.channels_last)
    return images


def lies_by_pixels(maps: Tensor) -> bool:
    """Whether, on a CPU, each pixel of (B, C, H, W) holds its channels side by side, and that is
    another order than channel by channel: not so with one pixel or one channel."""
    return (
        maps.device.type == "cpu"
        and maps.is_contiguous(memory_format=torch.channels_last)
        and not maps.is_contiguous()
    )
