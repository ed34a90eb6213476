"""Denoising queries: objects with noise in label and box, to be predicted without it.

Two schemes. ``contrastive`` is DINO's (Zhang et al. 2022, section 3.3): every group holds a
positive and a negative copy of each object, with noise relative to the box's size and drawn anew
for each group; positives learn the object, negatives, which lie farther off, background. Groups
do not see each other. ``thesis`` is the thesis': noise in units of the image, drawn once and the
same in all groups, negatives anywhere but with the true object as their target, groups that see
each other, and no more than ``denoising_queries / denoising_groups / 2`` objects of an image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.boxes import to_centers, to_corners
from detector.config import HybridConfig
from detector.network.layers import xavier_linear
from detector.network.modules.query_selection import QuerySet
from detector.network.ops.host_values import uploaded
from detector.network.position import TEMPERATURE

THINNEST = 1e-4  # least side of the thesis' noisy boxes, of the image


@dataclass(frozen=True)
class Denoised:
    """What the denoising queries are made of and should become, Q of them per image."""

    noisy_labels: Tensor  # (B, Q)
    noisy_boxes: Tensor  # (B, Q, 4) cxcywh
    labels: Tensor  # (B, Q) classes to predict; background is the number of classes
    boxes: Tensor  # (B, Q, 4) cxcywh
    used: Tensor  # (B, Q) bool: not padding
    positive: Tensor  # (B, Q) bool: has a box to predict
    group: Tensor  # (Q,) numbers of the groups


class Denoising(nn.Module):
    """Embeds noisy objects as queries; present in training only."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        d = config.d_model
        self.config = config
        self.labels = nn.Parameter(torch.randn(config.num_classes, d) * 0.02)
        self.box = xavier_linear(d, d)
        self.box_logit = nn.Parameter(torch.zeros(()))
        self.frequencies: Tensor
        steps = torch.arange(d // 8, dtype=torch.float32) / (d // 8)
        self.register_buffer("frequencies", TEMPERATURE**-steps)

    def forward(self, noisy: Denoised, rows: Tensor) -> QuerySet:
        """The queries of noisy objects.

        Args:
            noisy: Q denoising queries per image.
            rows: (N, C), the table of position embeddings, whose first Q rows the thesis' scheme
                takes. The contrastive scheme takes the embedded box: its groups are alike.
        """
        box = self.box(self._encoded(noisy.noisy_boxes))
        content = self.labels[noisy.noisy_labels] + self.box_logit.sigmoid() * box
        thesis = self.config.denoising == "thesis"
        position = rows[None, : content.shape[1]] if thesis else box
        return QuerySet(content, position, noisy.noisy_boxes[..., :2])

    def attention_mask(self, noisy: Denoised, queries: int) -> Tensor:
        """(B or 1, 1, T, T) bool, T = Q + ``queries``: may query i (row) not see query j?

        No query sees a denoising query of another group, or of any group if it is not one. In the
        thesis' scheme all denoising queries are one group, padding included, and see no other
        query; in the contrastive one they see the others, and nobody sees padding.
        """
        count = len(noisy.group)
        total = count + queries
        if self.config.denoising == "thesis":
            own = torch.arange(total, device=noisy.group.device) < count
            return (own[:, None] != own)[None, None]
        mask = torch.zeros((total, total), dtype=torch.bool, device=noisy.group.device)
        mask[:count, :count] = noisy.group[:, None] != noisy.group
        mask[count:, :count] = True
        padding = torch.nn.functional.pad(~noisy.used, (0, queries))
        return (mask | padding[:, None])[:, None]

    def _encoded(self, boxes: Tensor) -> Tensor:
        """(B, Q, 4) to (B, Q, C): sines and cosines of each coordinate, one after the other."""
        phase = 2 * math.pi * boxes[..., None] * self.frequencies
        return torch.cat((phase.sin(), phase.cos()), dim=-1).flatten(-2)


def add_noise(
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    config: HybridConfig,
    generator: torch.Generator | None = None,
) -> Denoised | None:
    """Noisy copies of a batch's objects by the config's scheme; None if it has no object.

    Args:
        labels: per image (n,) class indices.
        boxes: per image (n, 4) cxcywh in [0, 1].
        generator: on the boxes' device; None is its global one.
    """
    most = max(len(label) for label in labels)
    if most == 0:
        return None
    return (_thesis if config.denoising == "thesis" else _contrastive)(
        labels, boxes, most, config, generator
    )


def _thesis(
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    most: int,
    config: HybridConfig,
    generator: torch.Generator | None,
) -> Denoised:
    groups, classes = config.denoising_groups, config.num_classes
    per = min(most, config.denoising_queries // (2 * groups))
    # The first objects of an image, or all of them again and again.
    repeated = [
        torch.arange(per if len(x) else 0, device=x.device) % max(len(x), 1) for x in labels
    ]
    true = _padded([x[i] for x, i in zip(labels, repeated, strict=True)], per)
    wanted = _padded([x[i] for x, i in zip(boxes, repeated, strict=True)], per)
    draw = _Draw(wanted, generator)

    scale = config.denoising_box_noise
    near = wanted.clone()
    near[..., :2] = (near[..., :2] + (draw(2) - 0.5) * scale).clamp(0, 1)
    near[..., 2:] = (near[..., 2:] * (1 + (draw(2) - 0.5) * scale)).clamp(THINNEST, 1)
    near_label = draw.replaced(true, classes, config.denoising_label_noise)
    far = torch.cat((draw(2), (wanted[..., 2:] * (0.5 + draw(2))).clamp(THINNEST, 1)), dim=-1)
    other = draw.label(true, classes)
    wrong = torch.where(other == true, (other + 1) % classes, other)

    shown = uploaded([len(x) > 0 for x in labels], torch.bool, true.device)
    used = shown[:, None].expand(-1, per)
    nothing = torch.zeros_like(used)
    return Denoised(
        noisy_labels=torch.cat((near_label, wrong), dim=1).repeat(1, groups),
        noisy_boxes=torch.cat((near, far), dim=1).repeat(1, groups, 1),
        labels=true.repeat(1, 2 * groups),
        boxes=wanted.repeat(1, 2 * groups, 1),
        used=used.repeat(1, 2 * groups),
        positive=torch.cat((used, nothing), dim=1).repeat(1, groups),
        group=_numbers(groups, per, true.device),
    )


def _contrastive(
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    most: int,
    config: HybridConfig,
    generator: torch.Generator | None,
) -> Denoised:
    fitting = config.denoising_queries // (2 * most)
    groups = max(1, min(config.denoising_groups, fitting))
    classes = config.num_classes
    used = _padded([torch.ones_like(x, dtype=torch.bool) for x in labels], most)
    used = used.repeat(1, 2 * groups)
    true = _padded(labels, most).repeat(1, 2 * groups)
    wanted = _padded(boxes, most).repeat(1, 2 * groups, 1)
    half = torch.arange(2 * groups * most, device=true.device) // most
    positive = used & (half % 2 == 0)
    draw = _Draw(wanted, generator)

    # Each corner moves by less than the scale times half a side, of a negative by once to twice
    # that, in a direction of its own.
    distance = draw(4) + (half % 2)[:, None]
    sign = torch.where(draw(4) < 0.5, -1.0, 1.0)
    reach = torch.cat((wanted[..., 2:], wanted[..., 2:]), dim=-1) / 2 * config.denoising_box_noise
    corners = (to_corners(wanted) + sign * distance * reach).clamp(0, 1)
    first, second = corners[..., :2], corners[..., 2:]
    corners = torch.cat((torch.minimum(first, second), torch.maximum(first, second)), dim=-1)
    return Denoised(
        noisy_labels=draw.replaced(true, classes, config.denoising_label_noise),
        noisy_boxes=to_centers(corners),
        labels=torch.where(positive, true, classes),
        boxes=wanted,
        used=used,
        positive=positive,
        group=_numbers(groups, most, true.device),
    )


class _Draw:
    """Uniform numbers in [0, 1) for (B, Q, 4) boxes."""

    def __init__(self, boxes: Tensor, generator: torch.Generator | None) -> None:
        self.shape, self.device, self.generator = boxes.shape[:2], boxes.device, generator

    def __call__(self, *last: int) -> Tensor:
        return torch.rand(*self.shape, *last, device=self.device, generator=self.generator)

    def label(self, like: Tensor, classes: int) -> Tensor:
        """Uniform classes."""
        return (self() * classes).long().clamp(max=classes - 1).to(like.dtype)

    def replaced(self, labels: Tensor, classes: int, probability: float) -> Tensor:
        """The labels, each replaced by a uniform class with a probability."""
        return torch.where(self() < probability, self.label(labels, classes), labels)


def _padded(rows: Sequence[Tensor], length: int) -> Tensor:
    """(B, length, ...) of B tensors of up to ``length`` rows, zero where there is none."""
    out = rows[0].new_zeros((len(rows), length, *rows[0].shape[1:]))
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def _numbers(groups: int, per: int, device: torch.device) -> Tensor:
    return torch.arange(groups, device=device).repeat_interleave(2 * per)
