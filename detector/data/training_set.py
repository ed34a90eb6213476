"""Training batches that depend on nothing but the seed, the epoch and the position in it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from detector.data.augmentation.augment import random_color, random_crop, random_flip
from detector.data.augmentation.letterbox import Color, letterbox, normalize
from detector.data.augmentation.mosaic import MosaicTile, mosaic
from detector.data.dataset import Dataset
from detector.errors import UserError
from detector.uninterrupted import uninterrupted

# (epoch, index of the image), and the side of the network input where it varies.
Key = tuple[int, int] | tuple[int, int, int]

# First words of the seeds: the shuffle of an epoch and each of the changes in it are unrelated.
_ORDER, _FLIP, _COLOR, _CROP, _MOSAIC, _SIZE = 1, 2, 3, 4, 5, 6

# A box thinner than one pixel of the network input shows nothing to learn, and its GIoU has no
# usable gradient. Only training leaves such boxes out.
_THINNEST = 1.0


class Target(TypedDict):
    """What a training image shows."""

    boxes: Tensor  # (n, 4) float32 cxcywh in [0, 1] of the square input
    labels: Tensor  # (n,) int64
    image_id: int


Item = tuple[Tensor, Target]
Batch = tuple[Tensor, list[Target]]


@dataclass(eq=False)
class TrainingSet(TorchDataset[Item]):
    """A data set as network input: changed at random, letterboxed, normalized.

    An item is a (3, size, size) float32 image and its target. Its key is ``(epoch, index)``, as
    ``EpochSampler`` gives it, or with a size of its own as the third: the key carries the epoch
    into worker processes that live longer than one, and item randomness follows from (seed,
    epoch, index) alone.

    ``flip``, ``crop`` and ``mosaic`` are probabilities, ``color`` is a strength from 0 to 1; see
    ``augmentation.augment`` and ``augmentation.mosaic``. A mosaic has the id of its first image;
    the other three are any of the data set's.

    Objects to ignore are no targets, nor are boxes of which less than one input pixel in width or
    height lies within the image. Images without any object are items like all others.
    """

    dataset: Dataset
    size: int
    fill: Color
    flip: float = 0.5
    seed: int = 0
    _: KW_ONLY
    color: float = 0.0
    crop: float = 0.0
    mosaic: float = 0.0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key[:2]
        size = key[2] if len(key) == 3 else self.size

        def draws(kind: int) -> np.random.Generator:
            return np.random.default_rng((kind, self.seed, epoch, index))

        picture = self._picture(index)
        if self.mosaic:
            picture = self._with_others(picture, size, draws(_MOSAIC))
        image, boxes = picture.image, picture.boxes
        if self.crop:
            image, boxes = random_crop(image, boxes, self.crop, draws(_CROP))
        image, boxes = random_flip(image, boxes, self.flip, draws(_FLIP))
        if self.color:
            image = random_color(image, self.color, draws(_COLOR))
        square, placement = letterbox(image, size, self.fill)
        placed = placement.to_input(boxes.clip(0, (placement.width, placement.height) * 2))
        visible = (placed[:, 2:] * size >= _THINNEST).all(axis=1)
        target: Target = {
            "boxes": torch.tensor(placed[visible], dtype=torch.float32),
            "labels": torch.tensor(picture.labels[visible]),
            "image_id": self.dataset.annotations(index).image_id,
        }
        return normalize(square), target

    def _picture(self, index: int) -> MosaicTile:
        objects = self.dataset.annotations(index)
        targets = ~objects.ignore
        return MosaicTile(
            self.dataset.image(index), objects.boxes[targets], objects.labels[targets]
        )

    def _with_others(
        self, first: MosaicTile, size: int, generator: np.random.Generator
    ) -> MosaicTile:
        if generator.random() >= self.mosaic:
            return first
        others = generator.integers(len(self), size=3).tolist()
        return mosaic([first, *map(self._picture, others)], size, generator)


class EpochSampler(Sampler[Key]):
    """Every image once an epoch, in an order that follows from (seed, epoch) alone.

    Call ``set_epoch`` before each epoch. ``start`` skips the images that an interrupted run has
    already seen: what follows is what would have followed.

    With ``sizes``, each ``batch_size`` images in a row are to have one of these input sizes,
    which follows from (seed, epoch, number of the batch in the epoch) alone.
    """

    def __init__(
        self, length: int, seed: int = 0, *, sizes: Sequence[int] = (), batch_size: int = 1
    ) -> None:
        self._length = length
        self._seed = seed
        self._sizes = sizes
        self._batch_size = batch_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Next time, yield epoch ``epoch`` from position ``start``, counted in images."""
        if not 0 <= start <= self._length:
            raise ValueError(f"start {start} is not within the {self._length} images of an epoch")
        self._epoch = epoch
        self._start = start

    def __len__(self) -> int:
        return self._length - self._start

    def order(self, epoch: int) -> list[int]:
        """The images of an epoch, one after the other."""
        generator = np.random.default_rng((_ORDER, self._seed, epoch))
        return generator.permutation(self._length).tolist()

    def __iter__(self) -> Iterator[Key]:
        order, size = self.order(self._epoch), 0
        for position in range(self._start, self._length):
            if self._sizes:
                if position % self._batch_size == 0 or position == self._start:
                    size = self._size(position // self._batch_size)
                yield self._epoch, order[position], size
            else:
                yield self._epoch, order[position]

    def _size(self, batch: int) -> int:
        generator = np.random.default_rng((_SIZE, self._seed, self._epoch, batch))
        return self._sizes[int(generator.integers(len(self._sizes)))]


class DistributedBatchSampler(Sampler[Key]):
    """What one of several processes takes of each batch of a sampler's images.

    The processes' shares of a batch are consecutive; a last, incomplete batch is left out.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, rank: int, count: int) -> None:
        self._sampler = sampler
        self._batch_size = batch_size
        self._rank = rank
        self._part = batch_size // count

    def __len__(self) -> int:
        return len(self._sampler) // self._batch_size * self._part

    def __iter__(self) -> Iterator[Key]:
        keys = list(self._sampler)
        whole = len(keys) // self._batch_size * self._batch_size
        for start in range(self._rank * self._part, whole, self._batch_size):
            yield from keys[start : start + self._part]


def collate(items: Sequence[Item]) -> Batch:
    """Items as one batch: (B, 3, S, S) images and a list of B targets."""
    return torch.stack([image for image, _ in items]), [target for _, target in items]


class Items(Sized, Protocol):
    """What a loader can draw from."""

    def __getitem__(self, key: Key, /) -> Any: ...


def loader(
    training_set: Items,
    sampler: Sampler[Key] | Sequence[Key],
    batch_size: int,
    workers: int = 0,
    drop_last: bool = True,
    pin_memory: bool = False,
    collate: Callable[[Sequence[Any]], Any] = collate,
) -> DataLoader[Any]:
    """Batches of the sampler's epochs; the same batches for any number of ``workers``.

    Workers stay alive between epochs. The global random state is neither read nor changed. A
    UserError in a worker arrives here as itself; there is one too if no batch can be filled.
    """
    if drop_last and len(training_set) < batch_size:
        raise UserError(
            f"{len(training_set)} training images do not fill a batch of {batch_size}; "
            "give a smaller batch size or more images"
        )
    return _Loader(
        _Carrier(training_set),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=partial(_collate_carried, collate),
        drop_last=drop_last,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(0),  # seeds workers, which draw nothing from it
    )


@dataclass(frozen=True)
class _WorkerError:
    """The message of a UserError, on its way from a worker.

    Raised there, torch would hand the error on with the worker's traceback as its message.
    """

    message: str


class _Carrier(TorchDataset[Any]):
    def __init__(self, inner: Items) -> None:
        self._inner = inner

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, key: Key) -> Any:
        try:
            return self._inner[key]
        except UserError as error:
            return _WorkerError(str(error))


def _collate_carried(collate: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
    mistakes = (item for item in items if isinstance(item, _WorkerError))
    return next(mistakes, None) or collate(items)


class _Loader(DataLoader[Any]):
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        mistake = None
        for batch in self._started():
            if isinstance(batch, _WorkerError):
                mistake = batch
                break
            yield batch
        if mistake is not None:
            # Ends the workers now. Left to the garbage collector, which finds this frame in the
            # error's traceback, they end in no good order and are waited for, five seconds.
            self._iterator = None
            raise UserError(mistake.message)

    def _started(self) -> Iterator[Any]:
        if self.num_workers and multiprocessing.get_start_method() == "forkserver":
            # The default of Python 3.14. Imported by each worker, torch takes seconds and 300 MB.
            multiprocessing.set_forkserver_preload(["__main__", __name__])
        with uninterrupted() if self.num_workers else nullcontext():
            return super().__iter__()
