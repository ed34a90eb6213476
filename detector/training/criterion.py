"""The training loss: set prediction with softmax focal loss, boxes, and auxiliary terms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.boxes import giou, iou, to_corners
from detector.data.training_set import Target
from detector.network.model import Predictions
from detector.network.modules.denoising import Denoised
from detector.network.ops.host_values import uploaded
from detector.training.distributed import SINGLE_PROCESS, DistributedContext
from detector.training.loss_settings import LossSettings
from detector.training.matcher import Match, match

ALPHA, GAMMA = 0.25, 2.0  # of both focal losses
UNMATCHED_WEIGHT = 0.1
DENSE_RADIUS = 1  # cells around an object's center that count as it


def criterion(
    out: Predictions,
    targets: Sequence[Target],
    settings: LossSettings,
    denoising_factor: float = 1.0,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> dict[str, Tensor]:
    """The weighted terms by name, and their sum as ``loss``.

    Sums over objects are divided by the number of objects in the batch (at least 1); where
    processes share a batch, by their mean number, so that the mean of their gradients is that
    of the whole batch. A batch without objects is an ordinary batch: its queries learn background.
    ``denoising_factor`` multiplies the denoising terms.
    """
    labels = [target["labels"] for target in targets]
    boxes = [target["boxes"] for target in targets]
    objects, *denoised = _counts(labels, out, distributed)
    queries_in_all = objects.new_full((), out["logits"].shape[:2].numel())
    counted = queries_in_all if settings.labels_per == "query" else objects

    earlier = out.get("aux", ())
    matches, *earlier_matches = match(
        [out["logits"], *(logits for logits, _ in earlier)],
        [out["boxes"], *(predicted for _, predicted in earlier)],
        labels,
        boxes,
    )
    quality = _Quality(settings.quality_floor, settings.quality_predicted)
    terms = _set_losses(
        out["logits"],
        out["boxes"],
        labels,
        boxes,
        matches,
        (counted, objects),
        quality,
        out.get("iou_logits"),
    )
    queries, wanted = _gather(matches)
    if "iou_logits" in out:
        target = torch.cat([box[i] for box, i in zip(boxes, wanted, strict=True)])
        overlap = iou(to_corners(out["boxes"][queries].detach()), to_corners(target))
        predicted = out["iou_logits"][queries]
        error = F.binary_cross_entropy_with_logits(predicted, overlap, reduction="sum")
        terms["iou"] = error / objects
    distance = (out["boxes"][..., :2] - out["references"]).abs().sum(-1)
    every = settings.center_of == "all"
    terms["center"] = distance.mean() if every else distance[queries].sum() / objects
    terms["cardinality"] = _cardinality(out["logits"], labels, settings.cardinality_of)
    if "objectness_logits" in out:
        matched = torch.zeros_like(out["objectness_logits"])
        matched.index_put_(queries, matched.new_ones(()))
        terms["objectness"] = F.binary_cross_entropy_with_logits(out["objectness_logits"], matched)
    if "dense" in out:
        terms["dense"] = sum(
            (_dense(scores, labels, boxes) for scores in out["dense"]), start=distance.new_zeros(())
        )
    weighted = {name: getattr(settings, name) * value for name, value in terms.items()}

    for i, (logits, predicted) in enumerate(earlier):
        matches = earlier_matches[i]
        sizes = (counted, objects)
        terms = _set_losses(logits, predicted, labels, boxes, matches, sizes, quality)
        for name, value in terms.items():
            weighted[f"{name}_{i}"] = settings.aux * getattr(settings, name) * value
    if "denoised" in out:
        *early, last = (_denoising(*pair, out["denoised"], denoised) for pair in out["denoising"])
        weighted |= _denoising_weighted(last, settings, denoising_factor)
        for i, terms in enumerate(early):
            factor = denoising_factor * settings.aux
            weighted |= _denoising_weighted(terms, settings, factor, f"_{i}")
    weighted["loss"] = torch.stack(list(weighted.values())).sum()
    return weighted


def denoising_factor(epoch: int, warmup: int) -> float:
    """Factor of the denoising terms in an epoch (from 0): from 1/3 to 1 over ``warmup`` epochs.

    The thesis' README gives the two ends; that the way is linear is our choice.
    """
    return 1.0 if epoch >= warmup else (1 + 2 * epoch / warmup) / 3


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
    sizes: tuple[Tensor, Tensor],
    quality: _Quality,
    iou_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Classification of every query, and box terms of the matched ones.

    ``sizes`` is what the former's sum and the latter's are divided by.
    """
    counted, objects = sizes
    queries, wanted = _gather(matches)
    matched = predicted[queries]
    target = torch.cat([box[i] for box, i in zip(boxes, wanted, strict=True)])
    overlap = giou(to_corners(matched), to_corners(target))
    # Objects beyond the number of queries: 1 each, as if their box shared nothing with the object.
    unmatched = sum(map(len, labels)) - len(target)

    classes = logits.new_full(logits.shape[:2], logits.shape[-1] - 1, dtype=torch.long)
    classes[queries] = torch.cat([label[i] for label, i in zip(labels, wanted, strict=True)])
    weight = torch.full_like(logits[..., 0], UNMATCHED_WEIGHT)
    # A matched query learns its class as far as its box is right: quality-focal weighting.
    matched_iou = None if iou_logits is None else iou_logits[queries]
    weight[queries] = quality(overlap, matched_iou).to(weight.dtype)
    return {
        "labels": (weight * focal(logits, classes)).sum() / counted,
        "boxes": (matched - target).abs().sum() / objects,
        "giou": ((1 - overlap).sum() + unmatched) / objects,
    }


def _denoising(
    logits: Tensor, boxes: Tensor, wanted: Denoised, sizes: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Classification of all denoising queries, and boxes of the positive ones, in the mean.

    ``sizes`` are the numbers of the former and of the latter.
    """
    count, positives = sizes
    used = wanted.used.to(logits.dtype)
    positive = wanted.positive.to(logits.dtype)
    overlap = giou(to_corners(boxes), to_corners(wanted.boxes))
    return {
        "denoising_labels": (used * focal(logits, wanted.labels)).sum() / count,
        "denoising_boxes": (positive * (boxes - wanted.boxes).abs().sum(-1)).sum() / positives,
        "denoising_giou": (positive * (1 - overlap)).sum() / positives,
    }


def _denoising_weighted(
    terms: dict[str, Tensor], settings: LossSettings, factor: float, suffix: str = ""
) -> dict[str, Tensor]:
    return {
        name + suffix: factor * getattr(settings, name) * value for name, value in terms.items()
    }


def _cardinality(logits: Tensor, labels: Sequence[Tensor], of: Literal["sum", "mean"]) -> Tensor:
    """Mean over images of |expected number of objects - number of objects|."""
    objectness = 1 - logits.softmax(-1)[..., -1]
    expected = objectness.sum(1) if of == "sum" else objectness.mean(1)
    counts = uploaded([len(label) for label in labels], expected.dtype, expected.device)
    return (expected - counts).abs().mean()


def _dense(scores: Tensor, labels: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
    """Focal loss of a dense map against the 3x3 cells around every object's center."""
    batch, channels, height, width = scores.shape
    classes = channels - 4
    target = scores.new_zeros((batch, classes, height, width))
    counts = [len(label) for label in labels]
    images = torch.from_numpy(np.repeat(np.arange(batch), counts))
    image = uploaded(images, torch.long, scores.device)
    label, box = torch.cat(list(labels)), torch.cat(list(boxes))
    near = torch.arange(-DENSE_RADIUS, DENSE_RADIUS + 1, device=scores.device)
    # A cell beyond the border becomes the one at it, which is within reach itself: no cells have
    # to be counted, for which a GPU would be waited for.
    column = (box[:, 0] * width).long().clamp(0, width - 1)[:, None, None] + near
    row = (box[:, 1] * height).long().clamp(0, height - 1)[:, None, None] + near[:, None]
    x, y = column.clamp(0, width - 1), row.clamp(0, height - 1)
    # A number of the host's would be waited for on its way to a GPU.
    target.index_put_((image[:, None, None], label[:, None, None], y, x), target.new_ones(()))
    return sigmoid_focal(scores[:, :classes], target).mean()


def _counts(
    labels: Sequence[Tensor], out: Predictions, distributed: DistributedContext
) -> list[Tensor]:
    """Objects, denoising queries in use, and positive ones: each the mean over the processes.

    At least 1 in all processes together. Every process takes part, whatever its images show.
    """
    counts = out["logits"].new_zeros(3)
    counts[0].fill_(sum(len(label) for label in labels))
    if "denoised" in out:
        counts[1], counts[2] = out["denoised"].used.sum(), out["denoised"].positive.sum()
    return list(distributed.mean(counts).clamp(min=1 / distributed.world_size))


def _gather(matches: Sequence[Match]) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """Index of the matched queries into (B, N, ...), and the objects' indices per image."""
    rows = [torch.full_like(queries, i) for i, (queries, _) in enumerate(matches)]
    index = torch.cat(rows), torch.cat([queries for queries, _ in matches])
    return index, [objects for _, objects in matches]
