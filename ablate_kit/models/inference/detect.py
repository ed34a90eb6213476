"""Running a detector: on some images, and over a data set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ablate_kit.ablations.turns import used
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS, Detections
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import Group, groups
from ablate_kit.models.labels.classes import match_classes
from detector.data.dataset import Dataset, Pixels
from detector.training.deterministic import deterministic_kernels
from detector.training.devices import current_device
from detector.training.tf32 import tf32


@contextmanager
def inference(module: nn.Module, *, deterministic: bool = True) -> Iterator[None]:
    """How every network runs here: in one thread, without gradients, by its Python code alone, in
    full float32, and on a GPU by kernels that give the same bits each time, where there are such;
    whatever holds around the block.

    PyTorch's transformer layers have another way in evaluation mode, which differs in last bits and
    is left as soon as anything watches the layer or hooks into it.
    """
    device = device_of(module)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with used(module), full_float32(device.type), current_device(device):
            if deterministic and device.type == "cuda":
                # Replay finds out whether a model repeats itself by running it twice.
                with deterministic_kernels(required=False):
                    yield
            else:
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def full_float32(device: str = "cpu") -> Iterator[None]:
    """Without gradients, and in neither more nor fewer bits, also inside of ``torch.autocast``; and
    with tensors whose changes are counted, which those of ``torch.inference_mode`` are not, and
    replay reads."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(mode=False),
            torch.no_grad(),
            torch.autocast(device, enabled=False),
            tf32(enabled=False),
        ):
            yield
    finally:
        torch.set_default_dtype(usual)


def device_of(module: nn.Module) -> torch.device:
    """Of its first parameter."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def placed(adapter: Adapter, prepared: Prepared) -> Group:
    """A forward pass of one image, on the model's device."""
    (group,) = groups([prepared])
    return group.on(device_of(adapter.module))


def detect(adapter: Adapter, images: Sequence[Pixels]) -> list[ImageDetections]:
    """Detections of (height, width, 3) RGB images, best first; not thresholded."""
    found: dict[int, ImageDetections] = {}
    with inference(adapter.module):
        for group in groups([adapter.prepare(image) for image in images]):
            results = adapter.decode(adapter.forward(group.inputs), group.origins)
            found |= zip(group.positions, results, strict=True)
    return [found[i] for i in range(len(images))]


def finite(found: ImageDetections) -> NDArray[np.bool_]:
    """An ablation can drive a network to infinity; a box or score that is NaN is no detection."""
    return np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)


def detect_all(adapter: Adapter, dataset: Dataset, *, batch_size: int = 8) -> Detections:
    """Runs a detector over a data set.

    Detections of classes that the data set does not have are left out; the first 100 of the rest
    count.
    """
    store = Collector(adapter, dataset)
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        store.add(indices, detect(adapter, [dataset.image(i) for i in indices]))
    return store.detections()


class Collector:
    """Detections of one detector, gathered image by image in the data set's classes."""

    def __init__(self, adapter: Adapter, dataset: Dataset, limit: int = MAX_DETECTIONS) -> None:
        self._label_of = match_classes(adapter.classes, dataset.classes)
        self._limit = limit
        self._parts: list[Detections] = []

    def add(self, indices: Sequence[int], found: Sequence[ImageDetections]) -> Detections:
        """Takes those of the images ``indices``, and returns what of them counts."""
        parts = []
        for index, raw in zip(indices, found, strict=True):
            last, named = raw.labels.max(initial=-1), len(self._label_of)
            if last >= named:
                raise UserError(
                    f"the model finds class {last}, and has names of {named}, counted from 0: what "
                    "reads its outputs is made for another, such as its preprocessor_config.json"
                )
            labels = self._label_of[raw.labels]
            keep = np.flatnonzero(finite(raw) & (labels >= 0))[: self._limit]
            image, kept = np.full(len(keep), index), raw.rows(keep)
            columns = kept.boxes, kept.scores, labels[keep]
            parts.append(Detections(image, *columns, queries=kept.queries))
        part = Detections.concatenate(parts)
        self._parts.append(part)
        return part

    def detections(self) -> Detections:
        return Detections.concatenate(self._parts)
