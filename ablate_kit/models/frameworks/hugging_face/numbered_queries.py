"""Detections as Hugging Face reads them, and the query of each, which it does not tell."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Result = dict[str, Tensor]  # of an image: boxes, scores and labels of its detections
Read = Callable[[Tensor, Sequence[tuple[int, int]]], list[Result]]  # of boxes and images' sizes


class NumberedQueries:
    """The library reads boxes that are numbered: query k's is a point at (k, k).

    Where it chooses queries without a look at boxes, and takes these for centers and sizes as
    shares of the image, as nearly all processors do, the boxes of those follow. Whether it does is
    tried once, on boxes of any size. Else it reads the boxes themselves, too, which takes twice as
    long: on a GPU, a good part of what a variant of a sweep takes.
    """

    def __init__(self) -> None:
        self._follow: dict[torch.dtype, bool] = {}

    def read(self, read: Read, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
        """Results with ``queries``; ``boxes``: (images, queries, 4)."""
        points = torch.zeros(boxes.shape)
        points[..., :2] = torch.arange(boxes.shape[1])[:, None]
        numbered = read(points, [(1, 1)] * len(sizes))
        if boxes.dtype not in self._follow:
            wild = _wild(boxes)
            self._follow[boxes.dtype] = all(
                map(_same, _placed(numbered, wild, sizes), read(wild, sizes))
            )
        if self._follow[boxes.dtype]:
            return _placed(numbered, boxes, sizes)
        found = read(boxes, sizes)
        return [
            one | {"queries": number["boxes"][:, 0]}
            for one, number in zip(found, numbered, strict=True)
        ]


def _placed(
    numbered: Sequence[Result], boxes: Tensor, sizes: Sequence[tuple[int, int]]
) -> list[Result]:
    from transformers.image_transforms import center_to_corners_format

    scale = torch.tensor([(width, height) * 2 for height, width in sizes])
    corners = center_to_corners_format(boxes) * scale[:, None]
    found = []
    for one, of_image in zip(numbered, corners, strict=True):
        queries = one["boxes"][:, 0].long()
        found.append(one | {"boxes": of_image[queries], "queries": queries})
    return found


def _wild(boxes: Tensor) -> Tensor:
    """Boxes of any place and size, and some that are none."""
    drawn = torch.Generator().manual_seed(0)
    wild = torch.randn(boxes.shape, generator=drawn)
    wild *= 10 ** torch.randint(-3, 4, boxes.shape, generator=drawn)
    flat = wild.flatten()
    flat[::7], flat[3::11] = torch.inf, torch.nan
    return wild.to(boxes.dtype)


def _same(one: Result, other: Result) -> bool:
    return all(
        one[name].dtype == value.dtype
        and one[name].shape == value.shape
        and torch.allclose(one[name], value, rtol=0, atol=0, equal_nan=True)
        for name, value in other.items()
    )
