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
from detector.network.ops.host_values import constant, uploaded
from detector.training.distributed import SINGLE_PROCESS, DistributedContext
from detector.training.loss_settings import LossSettings
from detector.training.matcher import Matches, match

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
    counts = [len(target["labels"]) for target in targets]
    labels = torch.cat([target["labels"] for target in targets])
    boxes = torch.cat([target["boxes"] for target in targets])
    objects, *denoised = _counts(sum(counts), out, distributed)
    queries_in_all = objects.new_full((), out["logits"].shape[:2].numel())
    counted = queries_in_all if settings.labels_per == "query" else objects

    layers = [(out["logits"], out["boxes"]), *out.get("aux", ())]
    logits, predicted = map(torch.stack, zip(*layers, strict=True))
    matches = match(logits, predicted, counts, labels, boxes)
    quality = _Quality(settings.quality_floor, settings.quality_predicted)
    of_layers = _set_losses(
        logits,
        predicted,
        labels,
        boxes,
        matches,
        (counted, objects),
        quality,
        out.get("iou_logits"),
    )
    terms: dict[str, Tensor] = {}
    queries = matches.images, matches.queries[0]
    if "iou_logits" in out:
        target = to_corners(boxes[matches.objects[0]])
        overlap = iou(to_corners(out["boxes"][queries].detach()), target)
        error = F.binary_cross_entropy_with_logits(
            out["iou_logits"][queries], overlap, reduction="sum"
        )
        terms["iou"] = error / objects
    distance = (out["boxes"][..., :2] - out["references"]).abs().sum(-1)
    every = settings.center_of == "all"
    terms["center"] = distance.mean() if every else distance[queries].sum() / objects
    terms["cardinality"] = _cardinality(out["logits"], counts, settings.cardinality_of)
    if "objectness_logits" in out:
        matched = torch.zeros_like(out["objectness_logits"])
        matched.index_put_(queries, matched.new_ones(()))
        terms["objectness"] = F.binary_cross_entropy_with_logits(out["objectness_logits"], matched)
    if "dense" in out:
        image = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
        image = uploaded(image, torch.long, labels.device)
        terms["dense"] = sum(
            (_dense(scores, image, labels, boxes) for scores in out["dense"]),
            start=distance.new_zeros(()),
        )
    weighted, *earlier = _weighted(of_layers, settings)
    weighted |= {name: getattr(settings, name) * value for name, value in terms.items()}
    if "denoised" in out:
        *early, last = out["denoising"]
        noisy_logits, noisy_boxes = map(torch.stack, zip(last, *early, strict=True))
        of_layers = _denoising(noisy_logits, noisy_boxes, out["denoised"], denoised)
        earlier += _weighted(of_layers, settings, denoising_factor)
    for of_layer in earlier:
        weighted |= of_layer
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

    def __call__(self, overlap: Tensor) -> Tensor:
        return overlap.detach().clamp(self.floor, 1)

    def with_predicted(self, weight: Tensor, iou_logits: Tensor) -> Tensor:
        seen = self(iou_logits.sigmoid())
        return (1 - self.predicted) * weight + self.predicted * seen


def _set_losses(
    logits: Tensor,
    predicted: Tensor,
    labels: Tensor,
    boxes: Tensor,
    matches: Matches,
    sizes: tuple[Tensor, Tensor],
    quality: _Quality,
    iou_logits: Tensor | None,
) -> dict[str, Tensor]:
    """Classification of every query, and box terms of the matched ones: each (layers,).

    ``sizes`` is what the former's sum and the latter's are divided by. ``iou_logits`` are of the
    first layer.
    """
    counted, objects = sizes
    layer = torch.arange(len(logits), device=logits.device)[:, None]
    queries = layer, matches.images, matches.queries  # each (layers, M)
    matched, target = predicted[queries], boxes[matches.objects]
    overlap = giou(to_corners(matched), to_corners(target))
    # Objects beyond the number of queries: 1 each, as if their box shared nothing with the object.
    unmatched = len(labels) - target.shape[1]

    classes = logits.new_full(logits.shape[:-1], logits.shape[-1] - 1, dtype=torch.long)
    classes[queries] = labels[matches.objects]
    # A matched query learns its class as far as its box is right: quality-focal weighting.
    share = quality(overlap)
    if iou_logits is not None:
        seen = iou_logits[matches.images, matches.queries[0]]
        share[0] = quality.with_predicted(share[0], seen)
    weight = torch.full_like(logits[..., 0], UNMATCHED_WEIGHT)
    weight[queries] = share.to(weight.dtype)
    return {
        "labels": (weight * focal(logits, classes)).sum((1, 2)) / counted,
        "boxes": (matched - target).abs().sum((1, 2)) / objects,
        "giou": ((1 - overlap).sum(1) + unmatched) / objects,
    }


def _denoising(
    logits: Tensor, boxes: Tensor, wanted: Denoised, sizes: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Classification of all denoising queries, and boxes of the positive ones, in the mean: each
    (layers,).

    ``sizes`` are the numbers of the former and of the latter.
    """
    count, positives = sizes
    used = wanted.used.to(logits.dtype)
    positive = wanted.positive.to(logits.dtype)
    overlap = giou(to_corners(boxes), to_corners(wanted.boxes))
    lost = focal(logits, wanted.labels.expand(logits.shape[:-1]))
    distance = (boxes - wanted.boxes).abs().sum(-1)
    return {
        "denoising_labels": (used * lost).sum((1, 2)) / count,
        "denoising_boxes": (positive * distance).sum((1, 2)) / positives,
        "denoising_giou": (positive * (1 - overlap)).sum((1, 2)) / positives,
    }


def _weighted(
    of_layers: dict[str, Tensor], settings: LossSettings, factor: float = 1.0
) -> list[dict[str, Tensor]]:
    """Terms of each layer, the last layer first, the names of earlier ones with their number."""
    columns = []
    for name, values in of_layers.items():
        own = factor * getattr(settings, name)
        factors = (own, *[own * settings.aux] * (len(values) - 1))
        columns.append((values * constant(factors, values.dtype, values.device)).unbind())
    return [
        {
            f"{name}_{i - 1}" if i else name: value
            for name, value in zip(of_layers, row, strict=True)
        }
        for i, row in enumerate(zip(*columns, strict=True))
    ]


def _cardinality(logits: Tensor, counts: Sequence[int], of: Literal["sum", "mean"]) -> Tensor:
    """Mean over images of |expected number of objects - number of objects|."""
    objectness = 1 - logits.softmax(-1)[..., -1]
    expected = objectness.sum(1) if of == "sum" else objectness.mean(1)
    return (expected - uploaded(counts, expected.dtype, expected.device)).abs().mean()


def _dense(scores: Tensor, image: Tensor, label: Tensor, box: Tensor) -> Tensor:
    """Focal loss of a dense map against the 3x3 cells around every object's center.

    ``image`` is the number of the image that an object is in.
    """
    _, channels, height, width = scores.shape
    classes = channels - 4
    target = torch.zeros_like(scores[:, :classes])
    near = torch.arange(-DENSE_RADIUS, DENSE_RADIUS + 1, device=scores.device)
    # A cell beyond the border becomes the one at it, which is within reach itself: no cells have
    # to be counted, for which a GPU would be waited for.
    column = (box[:, 0] * width).long().clamp(0, width - 1)[:, None, None] + near
    row = (box[:, 1] * height).long().clamp(0, height - 1)[:, None, None] + near[:, None]
    x, y = column.clamp(0, width - 1), row.clamp(0, height - 1)
    # A number of the host's would be waited for on its way to a GPU.
    target.index_put_((image[:, None, None], label[:, None, None], y, x), target.new_ones(()))
    return sigmoid_focal(scores[:, :classes], target).mean()


def _counts(objects: int, out: Predictions, distributed: DistributedContext) -> list[Tensor]:
    """Objects, denoising queries in use, and positive ones: each the mean over the processes.

    At least 1 in all processes together. Every process takes part, whatever its images show.
    """
    counts = out["logits"].new_zeros(3)
    counts[0].fill_(objects)
    if "denoised" in out:
        counts[1], counts[2] = out["denoised"].used.sum(), out["denoised"].positive.sum()
    return list(distributed.mean(counts).clamp(min=1 / distributed.world_size))
