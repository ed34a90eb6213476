"""Images of a data set, prepared ahead and put together into forward passes."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch

from ablate_kit.models.adapter import Adapter, Prepared
from detector.data.dataset import Dataset


@dataclass(frozen=True)
class Group:
    """Prepared images of one shape, which share a forward pass: no image is padded for the sake
    of another, so that the batch does not change the result."""

    positions: tuple[int, ...]  # among the images of the batch
    inputs: Mapping[str, torch.Tensor]
    origins: tuple[Any, ...]

    def on(self, device: torch.device) -> "Group":
        """The same with its inputs on a device, copied once for all variants."""
        placed = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Group(self.positions, placed, self.origins)


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


class Kept(Protocol):
    """Batches that were prepared before; ``load`` and ``save`` are called from threads, of images
    that ``has`` was asked about."""

    def has(self, indices: Sequence[int]) -> bool: ...

    def load(self, indices: Sequence[int]) -> list[Prepared] | None: ...

    def save(self, indices: Sequence[int], prepared: Sequence[Prepared]) -> None: ...


def prepared_batches(
    adapter: Adapter,
    dataset: Dataset,
    sizes: Sequence[int],
    workers: int = 2,
    kept: Kept | None = None,
) -> Iterator[list[Prepared]]:
    """All images of a data set, prepared once each, two batches ahead of whoever asks for them.

    Args:
        sizes: of the batches.
        workers: threads. Decoding, resizing and normalizing leave Python, so they run at once.
        kept: batches of these images from before, and for later.
    """
    ends = list(accumulate(sizes))
    spans = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    with ThreadPoolExecutor(workers) as pool:

        def prepare(span: range) -> list[Future[Prepared]]:
            return [pool.submit(lambda i=i: adapter.prepare(dataset.image(i))) for i in span]  # type: ignore[misc]

        def submit(span: range) -> Future[list[Prepared] | None] | list[Future[Prepared]]:
            return pool.submit(kept.load, span) if kept and kept.has(span) else prepare(span)

        def result(
            span: range, coming: Future[list[Prepared] | None] | list[Future[Prepared]]
        ) -> list[Prepared]:
            if isinstance(coming, Future):
                if found := coming.result():
                    return found
                coming = prepare(span)
            images = [one.result() for one in coming]
            if kept:
                pool.submit(kept.save, span, images)
            return images

        ahead = [submit(span) for span in spans[:2]]
        for k, span in enumerate(spans):
            yield result(span, ahead.pop(0))
            if k + 2 < len(spans):
                ahead.append(submit(spans[k + 2]))


def batch_sizes(images: int, most: int) -> list[int]:
    """Of all batches of so many images."""
    return [min(most, images - start) for start in range(0, images, most)]
