"""Whether a smaller model computes what the ablated one does, seen on images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.batches import groups
from ablate_kit.models.inference.detect import inference
from ablate_kit.plural import counted
from detector.data.dataset import Dataset, Pixels

TOLERANCE = 1e-5
"""Of outputs in float32: absolutely, and of their size where that is more than 1."""

IMAGES = 8
RANDOM_IMAGES = 2
_RANDOM_SIZE = (240, 320, 3)


@dataclass(frozen=True)
class OutputAgreement:
    """The greatest difference of any output, each divided by its size where that is more than 1."""

    largest: float
    images: int
    random: bool  # whether the images are noise, for want of others

    def __str__(self) -> str:
        images = counted(self.images, "random image" if self.random else "image")
        return f"{self.largest:.2g} on {images}"


def agreement(
    original: Adapter, ablation: Ablation | None, smaller: Adapter, dataset: Dataset | None
) -> OutputAgreement:
    """How far the smaller model's outputs are from those of the original under the ablation, if
    there is one.

    Raises ``UserError`` where that is further than rounding goes: it is not the same model.
    """
    images = images_of(dataset)
    largest = 0.0
    for group in groups([original.prepare(image) for image in images]):
        cut = applied(original.module, ablation, original.live_names()) if ablation else None
        with inference(original.module), cut or nullcontext():
            expected = dict(_tensors(original.forward(group.inputs)))
        with inference(smaller.module):
            found = dict(_tensors(_run(smaller, group.inputs)))
        for name, value in expected.items():
            largest = max(largest, _difference(name, value, found))
    result = OutputAgreement(largest, len(images), dataset is None)
    if not largest <= TOLERANCE:
        raise UserError(
            f"nothing is written: the smaller model's outputs differ from the ablated one's by "
            f"{result}; rounding would be up to {TOLERANCE:g}"
        )
    return result


def _run(smaller: Adapter, inputs: Mapping[str, torch.Tensor]) -> Any:
    try:
        return smaller.forward(inputs)
    except UserError as error:
        kind = type(smaller.module).__name__
        raise UserError(
            f"nothing is written: {kind} counts on a size that the smaller model does not have; "
            f"{error}"
        ) from error


def images_of(dataset: Dataset | None) -> Sequence[Pixels]:
    """The first images of a data set, or of none random ones, always the same."""
    if dataset is None:
        generator = np.random.default_rng(0)
        return [
            generator.integers(0, 256, _RANDOM_SIZE, dtype=np.uint8) for _ in range(RANDOM_IMAGES)
        ]
    return [dataset.image(i) for i in range(min(IMAGES, len(dataset)))]


def _tensors(outputs: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """What a detector says of its queries: every output but intermediate ones, of which a model
    with fewer layers has fewer."""
    if not isinstance(outputs, Mapping):
        raise UserError(
            f"the model gives a {type(outputs).__name__}, whose parts have no names; its outputs "
            "cannot be compared"
        )
    wanted = ("logits", "boxes", "pred_boxes", "references", "iou_logits", "objectness_logits")
    yield from ((name, outputs[name]) for name in wanted if outputs.get(name) is not None)


def _difference(name: str, expected: torch.Tensor, found: Mapping[str, torch.Tensor]) -> float:
    if name not in found or found[name].shape != expected.shape:
        other = tuple(found[name].shape) if name in found else None
        raise UserError(
            f"nothing is written: the smaller model's {name} have shape {other}, the ablated "
            f"one's {tuple(expected.shape)}"
        )
    difference = (found[name] - expected).abs() / expected.abs().clamp(min=1.0)
    largest = float(difference.max())
    return math.inf if math.isnan(largest) else largest
