"""What is compared: a model that an official repository has built, and what it sees."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True)
class Seen:
    """What the official evaluation makes of one image."""

    pixels: Tensor  # (3, H, W)
    logits: Tensor  # (queries, outputs)
    boxes: Tensor  # (queries, 4)
    scores: Tensor  # of its detections
    labels: Tensor
    corners: Tensor  # (detections, 4), in pixels of the image


@dataclass(frozen=True)
class Official:
    """A model of an official repository.

    ``saved`` is what its training script saves; ``see`` is its own evaluation of a batch.
    ``calibrated`` gives its batch norms the statistics of an image: where queries are chosen by a
    score, they must not be all alike. ``settle`` is called once weights are drawn. ``clipped`` says
    that boxes end at the image's border, as transformers' do not.
    """

    name: str
    module: nn.Module
    saved: Callable[[], Any]
    see: Callable[[Sequence[Image.Image]], list[Seen]]
    calibrated: bool = False
    settle: Callable[[], None] = lambda: None
    clipped: bool = False


def imported(clone: Path, name: str) -> Any:
    if str(clone) not in sys.path:
        sys.path.insert(0, str(clone))
    __import__(name)
    return sys.modules[name]


def seen(
    pixels: Sequence[Tensor], out: Mapping[str, Tensor], found: Sequence[Mapping[str, Tensor]]
) -> list[Seen]:
    """``out`` and ``found``: outputs for a batch, and the detections read off them."""
    parts = zip(pixels, out["pred_logits"], out["pred_boxes"], found, strict=True)
    return [
        Seen(one, logits, boxes, read["scores"], read["labels"], read["boxes"])
        for one, logits, boxes, read in parts
    ]


def sizes(images: Sequence[Image.Image]) -> Tensor:
    """(images, 2): height and width of each."""
    return torch.tensor([[one.height, one.width] for one in images])


def queries_start_alike(module: Any, queries: int) -> None:
    """The first stage's choices come in the order of their scores, which rounding changes: then
    another query of the group would start there."""
    for one in (module.refpoint_embed.weight, module.query_feat.weight):
        for group in one.split(queries):
            all_alike(group)


def all_alike(rows: Tensor) -> None:
    rows.detach().copy_(rows.detach()[:1].clone())
