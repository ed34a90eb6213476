"""Fitting an image of any shape into the square network input, and boxes there and back."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detector.data.dataset import Floats, Pixels

Color = tuple[float, float, float]
Boxes = TypeVar("Boxes", Floats, Tensor)

# Of the ImageNet training images, RGB in [0, 1]: what pretrained backbones were normalized with.
MEAN: Color = (0.485, 0.456, 0.406)
STD: Color = (0.229, 0.224, 0.225)

MEAN_COLOR = MEAN  # padding that is exactly 0 once normalized
GRAY: Color = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Placement:
    """Where an image of ``width`` x ``height`` pixels lies in a square of side ``size``.

    The longer side fills the square, the other is rounded to a whole pixel. The two scales are
    the exact ratios of the sizes, so boxes and pixels move together.
    """

    scale_x: float  # new width / width
    scale_y: float
    left: int  # padding, in pixels of the square
    top: int
    width: int  # of the original image, in pixels
    height: int
    size: int

    @classmethod
    def of(cls, width: int, height: int, size: int) -> "Placement":
        """The placement of an image of this shape, without the image."""
        new_width, new_height = _fitted(width, height, size)
        return cls(
            scale_x=new_width / width,
            scale_y=new_height / height,
            left=(size - new_width) // 2,
            top=(size - new_height) // 2,
            width=width,
            height=height,
            size=size,
        )

    def to_input(self, boxes: Boxes) -> Boxes:
        """(..., 4) xyxy pixels of the image as cxcywh in [0, 1] of the square; not clipped."""
        scale = _like(boxes, self.scale_x, self.scale_y)
        offset = _like(boxes, self.left, self.top)
        first = (boxes[..., :2] * scale + offset) / self.size
        last = (boxes[..., 2:] * scale + offset) / self.size
        return _joined((first + last) / 2, last - first)

    def to_original(self, boxes: Boxes) -> Boxes:
        """(..., 4) xyxy in [0, 1] of the square as xyxy pixels, clipped to the image."""
        scale = _like(boxes, self.scale_x, self.scale_y)
        offset = _like(boxes, self.left, self.top)
        end = _like(boxes, self.width, self.height)
        first = (boxes[..., :2] * self.size - offset) / scale
        last = (boxes[..., 2:] * self.size - offset) / scale
        return _joined(first.clip(end * 0, end), last.clip(end * 0, end))


def letterbox(image: Pixels, size: int, fill: Color) -> tuple[Tensor, Placement]:
    """Fit a (height, width, 3) RGB image into the middle of a square of color ``fill``.

    Returns the (3, size, size) float32 square in [0, 1], not yet normalized, and where the image
    lies in it. Resizing is bilinear with antialiasing; an odd pixel of padding goes to the right
    or the bottom.
    """
    height, width = image.shape[:2]
    placement = Placement.of(width, height, size)
    new_width, new_height = _fitted(width, height, size)
    # A mirrored image of one column is contiguous, too, with a stride that torch does not take.
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1).float().div_(255)
    resized = F.interpolate(
        pixels.unsqueeze(0),
        size=(new_height, new_width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    square = torch.tensor(fill, dtype=torch.float32).view(3, 1, 1).repeat(1, size, size)
    square[
        :, placement.top : placement.top + new_height, placement.left : placement.left + new_width
    ] = resized[0].clamp_(0, 1)  # white may come out as 1.0000001
    return square, placement


def normalize(images: Tensor) -> Tensor:
    """(..., 3, H, W) images in [0, 1] with ImageNet's mean taken off, divided by its deviation."""
    mean = images.new_tensor(MEAN).view(3, 1, 1)
    std = images.new_tensor(STD).view(3, 1, 1)
    return (images - mean) / std


def _fitted(width: int, height: int, size: int) -> tuple[int, int]:
    longer = max(width, height)

    def fit(side: int) -> int:
        # In integers, since 333 * (480 / 333) is not 480: floor(side * size / longer + 1/2).
        return max(1, (2 * side * size + longer) // (2 * longer))

    return fit(width), fit(height)


def _like(boxes: Boxes, x: float, y: float) -> Boxes:
    if isinstance(boxes, Tensor):
        return boxes.new_tensor((x, y))
    return np.array((x, y), dtype=np.float64)


def _joined(first: Boxes, last: Boxes) -> Boxes:
    if isinstance(first, Tensor):
        return torch.cat((first, last), dim=-1)
    return np.concatenate((first, last), axis=-1)
