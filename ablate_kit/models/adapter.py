"""What a framework must offer so that its detectors can be ablated and evaluated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.models.classes import match_classes
from detector.data.dataset import Dataset, Pixels

MAX_DETECTIONS = 100  # per image, as COCO counts


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image, in pixels of the original image."""

    boxes: npt.NDArray[np.float64]  # (k, 4) xyxy
    scores: npt.NDArray[np.float64]  # (k,)
    labels: npt.NDArray[np.int64]  # (k,) index into the adapter's classes
    # (k,) the object query that each comes from; None where the framework cannot tell
    queries: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Prepared:
    """One image as the network takes it."""

    inputs: Mapping[str, torch.Tensor]  # (1, ...) each
    origin: Any  # what ``Adapter.decode`` needs to come back to the original image


class Adapter(Protocol):
    """A detector, ready to run in evaluation mode.

    Preparing, running and decoding are apart, so that many ablations can share the first.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        """For each tensor of the checkpoint, its names in ``module.state_dict()``.

        A tensor that the checkpoint holds once may be shared by several modules.
        """

    def same_model(self, other: "Adapter") -> bool:
        """Whether ``other`` differs in nothing but the values of its tensors."""

    def prepare(self, image: Pixels) -> Prepared:
        """A (height, width, 3) RGB image, prepared alone; called from several threads at once."""

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Runs the module on a batch of prepared images of one shape."""

    def decode(self, outputs: Any, origins: Sequence[Any]) -> list[ImageDetections]:
        """Detections from what ``forward`` returned, best first; not thresholded."""


@dataclass(frozen=True)
class Group:
    """Prepared images of one shape, which share a forward pass: no image is padded for the sake
    of another, so that the batch does not change the result."""

    positions: tuple[int, ...]  # among the images of the batch
    inputs: Mapping[str, torch.Tensor]
    origins: tuple[Any, ...]


def groups(prepared: Sequence[Prepared]) -> list[Group]:
    """The forward passes of a batch."""
    by_shape: dict[tuple[Any, ...], list[int]] = {}
    for i, one in enumerate(prepared):
        key = tuple((name, tuple(tensor.shape)) for name, tensor in one.inputs.items())
        by_shape.setdefault(key, []).append(i)
    return [
        Group(
            tuple(members),
            {
                name: torch.cat([prepared[i].inputs[name] for i in members])
                for name in prepared[members[0]].inputs
            },
            tuple(prepared[i].origin for i in members),
        )
        for members in by_shape.values()
    ]


@contextmanager
def inference() -> Iterator[None]:
    """How every network runs here: without gradients, and by its Python code alone.

    PyTorch's transformer layers have another way in evaluation mode, which differs in last bits and
    is left as soon as anything watches the layer or hooks into it.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@inference()
def detect(adapter: Adapter, images: Sequence[Pixels]) -> list[ImageDetections]:
    """Detections of (height, width, 3) RGB images, best first; not thresholded."""
    found: dict[int, ImageDetections] = {}
    for group in groups([adapter.prepare(image) for image in images]):
        results = adapter.decode(adapter.forward(group.inputs), group.origins)
        found |= zip(group.positions, results, strict=True)
    return [found[i] for i in range(len(images))]


def prepared_batches(
    adapter: Adapter, dataset: Dataset, sizes: Sequence[int], workers: int = 2
) -> Iterator[list[Prepared]]:
    """All images of a data set, prepared once each, two batches ahead of whoever asks for them.

    Args:
        sizes: of the batches.
        workers: threads. Decoding, resizing and normalizing leave Python, so they run at once.
    """
    ends = list(accumulate(sizes))
    spans = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    with ThreadPoolExecutor(workers) as pool:

        def submit(span: range) -> list[Future[Prepared]]:
            return [pool.submit(lambda i=i: adapter.prepare(dataset.image(i))) for i in span]  # type: ignore[misc]

        ahead = [submit(span) for span in spans[:2]]
        for k in range(len(spans)):
            yield [one.result() for one in ahead.pop(0)]
            if k + 2 < len(spans):
                ahead.append(submit(spans[k + 2]))


def batch_sizes(images: int, most: int) -> list[int]:
    """Of all batches of so many images."""
    return [min(most, images - start) for start in range(0, images, most)]


def detect_all(
    adapter: Adapter,
    dataset: Dataset,
    *,
    batch_size: int = 8,
    advance: Callable[[int], None] = lambda _: None,
) -> Detections:
    """Runs a detector over a data set.

    Detections of classes that the data set does not have are left out; the first 100 of the rest
    count. ``advance`` is told how many images are done, batch by batch.
    """
    store = Collector(adapter, dataset)
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        store.add(indices, detect(adapter, [dataset.image(i) for i in indices]))
        advance(len(indices))
    return store.detections()


class Collector:
    """Detections of one detector, gathered image by image in the data set's classes."""

    def __init__(self, adapter: Adapter, dataset: Dataset) -> None:
        self._label_of = match_classes(adapter.classes, dataset.classes)
        self._parts: list[Detections] = []

    def add(self, indices: Sequence[int], found: Sequence[ImageDetections]) -> Detections:
        """Takes those of the images ``indices``, and returns what of them counts."""
        parts = []
        for index, raw in zip(indices, found, strict=True):
            labels = self._label_of[raw.labels]
            # A cut can drive a network to infinity; what is no number is no detection.
            usable = np.isfinite(raw.scores) & np.isfinite(raw.boxes).all(axis=1)
            keep = np.flatnonzero(usable & (labels >= 0))[:MAX_DETECTIONS]
            image = np.full(len(keep), index)
            queries = None if raw.queries is None else raw.queries[keep]
            columns = raw.boxes[keep], raw.scores[keep], labels[keep]
            parts.append(Detections(image, *columns, queries=queries))
        part = Detections.concatenate(parts)
        self._parts.append(part)
        return part

    def detections(self) -> Detections:
        return Detections.concatenate(self._parts)


def ground_truth(dataset: Dataset) -> GroundTruth:
    """The annotations of a data set in the form that metrics take."""
    if len(dataset) == 0:
        raise UserError("the data set has no images")
    images = [dataset.annotations(index) for index in range(len(dataset))]
    return GroundTruth(
        image_ids=np.array([one.image_id for one in images], dtype=np.int64),
        widths=np.array([one.width for one in images], dtype=np.int64),
        heights=np.array([one.height for one in images], dtype=np.int64),
        image=np.repeat(np.arange(len(images)), [len(one.labels) for one in images]),
        boxes=np.concatenate([one.boxes for one in images]),
        labels=np.concatenate([one.labels for one in images]),
        ignore=np.concatenate([one.ignore for one in images]),
        areas=np.concatenate([one.areas for one in images]),
        ids=np.concatenate([one.ids for one in images]),
        classes=tuple(dataset.classes),
        category_ids=tuple(dataset.category_ids),
    )


def crowded(truth: GroundTruth) -> list[str]:
    """A note on images with more objects than detections are kept of an image, or none."""
    full = int((np.bincount(truth.image, minlength=1) > MAX_DETECTIONS).sum())
    if not full:
        return []
    return [
        f"{full:,} images have more than {MAX_DETECTIONS} objects, and the {MAX_DETECTIONS} best "
        "detections of an image are kept: the others count as missed"
    ]
