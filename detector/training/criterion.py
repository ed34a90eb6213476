"""The training loss: set prediction with softmax focal loss, boxes, and auxiliary terms."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.boxes import giou, iou, to_corners
from detector.data.training import Target
from detector.network.model import Predictions
from detector.training.matcher import Match, match

ALPHA, GAMMA = 0.25, 2.0  # of both focal losses
UNMATCHED_WEIGHT = 0.1
DENSE_RADIUS = 1  # cells around an object's center that count as it


@dataclass(frozen=True)
class LossSettings:
    """Factors of the loss terms; ``aux`` multiplies the terms of every earlier layer.

    ``quality_floor`` is the least weight of a matched query's classification, which otherwise is
    the GIoU of its box and 0 for a box that is off: then it learns no class until it overlaps.
    ``iou`` and ``quality_predicted`` act on models with an IoU head: the latter is the share of the
    predicted IoU in that weight, the GIoU's being the rest.
    """

    labels: float = 2.0
    boxes: float = 5.0
    giou: float = 2.5
    center: float = 0.1
    cardinality: float = 0.1
    dense: float = 0.5
    aux: float = 0.4
    quality_floor: float = 0.0
    iou: float = 1.0
    quality_predicted: float = 0.0


def criterion(
    out: Predictions, targets: Sequence[Target], settings: LossSettings
) -> dict[str, Tensor]:
    """The weighted terms by name, and their sum as ``loss``.

    Sums over objects are divided by the number of objects in the batch (at least 1). A batch
    without objects is an ordinary batch: its queries learn background.
    """
    labels = [target["labels"] for target in targets]
    boxes = [target["boxes"] for target in targets]
    objects = max(sum(len(label) for label in labels), 1)

    matches = match(out["logits"], out["boxes"], labels, boxes)
    quality = _Quality(settings.quality_floor, settings.quality_predicted)
    terms = _set_losses(
        out["logits"], out["boxes"], labels, boxes, matches, objects, quality, out.get("iou_logits")
    )
    queries, wanted = _gather(matches)
    if "iou_logits" in out:
        target = torch.cat([box[i] for box, i in zip(boxes, wanted, strict=True)])
        overlap = iou(to_corners(out["boxes"][queries].detach()), to_corners(target))
        predicted = out["iou_logits"][queries]
        error = F.binary_cross_entropy_with_logits(predicted, overlap, reduction="sum")
        terms["iou"] = error / objects
    centers = out["boxes"][queries][:, :2]
    terms["center"] = (centers - out["references"][queries]).abs().sum() / objects
    terms["cardinality"] = _cardinality(out["logits"], labels)
    if "dense" in out:
        terms["dense"] = sum(
            (_dense(scores, labels, boxes) for scores in out["dense"]), start=centers.new_zeros(())
        )
    weighted = {name: getattr(settings, name) * value for name, value in terms.items()}

    for i, (logits, predicted) in enumerate(out.get("aux", ())):
        matches = match(logits, predicted, labels, boxes)
        terms = _set_losses(logits, predicted, labels, boxes, matches, objects, quality)
        for name, value in terms.items():
            weighted[f"{name}_{i}"] = settings.aux * getattr(settings, name) * value
    weighted["loss"] = torch.stack(list(weighted.values())).sum()
    return weighted


def focal(logits: Tensor, classes: Tensor) -> Tensor:
    """Softmax focal loss -alpha * (1 - p)^2 * log p of every row; background is the last class.

    alpha is 0.25 where the class is an object and 0.75 where it is background.
    """
    log_p = logits.log_softmax(-1).gather(-1, classes[..., None]).squeeze(-1)
    background = classes == logits.shape[-1] - 1
    alpha = torch.where(background, 1 - ALPHA, ALPHA)
    return -alpha * (1 - log_p.exp()) ** GAMMA * log_p


def sigmoid_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Binary focal loss (Lin et al. 2017) of every element."""
    p = logits.sigmoid()
    p_t = target * p + (1 - target) * (1 - p)
    alpha = target * ALPHA + (1 - target) * (1 - ALPHA)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return alpha * (1 - p_t) ** GAMMA * cross_entropy


@dataclass(frozen=True)
class _Quality:
    """How much a matched query's classification weighs."""

    floor: float
    predicted: float  # share of the predicted IoU

    def __call__(self, overlap: Tensor, iou_logits: Tensor | None) -> Tensor:
        weight = overlap.detach().clamp(self.floor, 1)
        if iou_logits is None:
            return weight
        seen = iou_logits.detach().sigmoid().clamp(self.floor, 1)
        return (1 - self.predicted) * weight + self.predicted * seen


def _set_losses(
    logits: Tensor,
    predicted: Tensor,
    labels: Sequence[Tensor],
    boxes: Sequence[Tensor],
    matches: Sequence[Match],
    objects: int,
    quality: _Quality,
    iou_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Classification of every query, and box terms of the matched ones."""
    queries, wanted = _gather(matches)
    matched = predicted[queries]
    target = torch.cat([box[i] for box, i in zip(boxes, wanted, strict=True)])
    overlap = giou(to_corners(matched), to_corners(target))

    classes = logits.new_full(logits.shape[:2], logits.shape[-1] - 1, dtype=torch.long)
    classes[queries] = torch.cat([label[i] for label, i in zip(labels, wanted, strict=True)])
    weight = torch.full_like(logits[..., 0], UNMATCHED_WEIGHT)
    # A matched query learns its class as far as its box is right: quality-focal weighting.
    matched_iou = None if iou_logits is None else iou_logits[queries]
    weight[queries] = quality(overlap, matched_iou).to(weight.dtype)
    return {
        "labels": (weight * focal(logits, classes)).sum() / objects,
        "boxes": (matched - target).abs().sum() / objects,
        "giou": (1 - overlap).sum() / objects,
    }


def _cardinality(logits: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """Mean over images of |expected number of objects - number of objects|."""
    expected = (1 - logits.softmax(-1)[..., -1]).sum(1)
    counts = expected.new_tensor([len(label) for label in labels])
    return (expected - counts).abs().mean()


def _dense(scores: Tensor, labels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
    """Focal loss of a dense map against the 3x3 cells around every object's center."""
    batch, channels, height, width = scores.shape
    classes = channels - 4
    target = scores.new_zeros((batch, classes, height, width))
    for i, (label, box) in enumerate(zip(labels, boxes, strict=True)):
        column = (box[:, 0] * width).long().clamp(0, width - 1)
        row = (box[:, 1] * height).long().clamp(0, height - 1)
        for dy in range(-DENSE_RADIUS, DENSE_RADIUS + 1):
            for dx in range(-DENSE_RADIUS, DENSE_RADIUS + 1):
                y, x = row + dy, column + dx
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
                target[i, label[inside], y[inside], x[inside]] = 1.0
    return sigmoid_focal(scores[:, :classes], target).mean()


def _gather(matches: Sequence[Match]) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """Index of the matched queries into (B, N, ...), and the objects' indices per image."""
    rows = [torch.full_like(queries, i) for i, (queries, _) in enumerate(matches)]
    index = torch.cat(rows), torch.cat([queries for queries, _ in matches])
    return index, [objects for _, objects in matches]
