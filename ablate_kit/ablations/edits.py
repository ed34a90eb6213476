"""What an ablation is made of: elements of one tensor, and what they become."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ablate_kit.registry import Registry

if TYPE_CHECKING:  # only what draws needs numpy, and most of what is cut is whole tensors
    import numpy as np
    import numpy.typing as npt

_CHUNK = 1 << 19  # random numbers that are drawn at a time
_SHIFT = 48


@dataclass(frozen=True)
class Whole:
    """Every element of a tensor."""

    def count(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    def slices(self) -> list[tuple[slice, ...]]:
        return [()]


@dataclass(frozen=True)
class Blocks:
    """The elements whose index on ``axis`` lies in one of the half-open ``ranges``."""

    axis: int
    ranges: tuple[tuple[int, int], ...]

    def count(self, shape: tuple[int, ...]) -> int:
        width = sum(stop - start for start, stop in self.ranges)
        others = shape[: self.axis] + shape[self.axis + 1 :]
        return width * math.prod(others)

    def slices(self) -> list[tuple[slice, ...]]:
        """Of each block, from the first axis on."""
        leading = (slice(None),) * self.axis
        return [(*leading, slice(start, stop)) for start, stop in self.ranges]


@dataclass(frozen=True)
class Random:
    """``units`` elements drawn without replacement.

    Every element gets a 64-bit number of a Philox generator keyed by (seed, draw, tensor name);
    those with the smallest numbers are taken. Raw Philox numbers are the same in every NumPy
    version, so the same elements are drawn everywhere; and of two ablations that differ in
    ``units`` alone, the smaller one is part of the larger.
    """

    units: int
    seed: int
    draw: int

    by: ClassVar[str] = ""  # whose draw it is, where not ours

    def count(self, shape: tuple[int, ...]) -> int:
        return self.units

    def indices(self, tensor: str, shape: tuple[int, ...]) -> "npt.NDArray[np.int64]":
        """Sorted flat (row-major) indices of the drawn elements."""
        import numpy as np

        return np.concatenate(list(self.parts(tensor, shape)))

    def parts(self, tensor: str, shape: tuple[int, ...]) -> "Iterator[npt.NDArray[np.int64]]":
        """``indices`` piece by piece, in memory that does not grow with the tensor."""
        import numpy as np

        bound = self._bound(tensor, math.prod(shape))
        start, left = 0, self.units
        for numbers in self._numbers(tensor, math.prod(shape)):
            drawn = np.flatnonzero(numbers <= bound)[:left]
            left -= drawn.size
            yield drawn + start
            start += numbers.size

    def _bound(self, tensor: str, total: int) -> "np.uint64":
        """The largest number of a drawn element: by its first 16 bits, then among those."""
        import numpy as np

        shift = np.uint64(_SHIFT)
        counts = np.zeros(1 << 16, np.int64)
        for numbers in self._numbers(tensor, total):
            counts += np.bincount((numbers >> shift).astype(np.int64), minlength=counts.size)
        ends = np.cumsum(counts)
        place = int(np.searchsorted(ends, self.units))
        near = np.concatenate(
            [numbers[numbers >> shift == place] for numbers in self._numbers(tensor, total)]
        )
        rank = self.units - 1 - int(ends[place] - counts[place])
        return np.partition(near, rank)[rank]

    def _numbers(self, tensor: str, total: int) -> "Iterator[npt.NDArray[np.uint64]]":
        generator = philox(self.seed, self.draw, tensor)
        for start in range(0, total, _CHUNK):
            yield generator.random_raw(min(_CHUNK, total - start))


Region = Whole | Blocks | Random

REGIONS: Registry[type[Random]] = Registry("random regions")
"""Others' draws, by ``by``."""


@dataclass(frozen=True)
class Noise:
    """Normal noise of ``share`` times the tensor's own standard deviation.

    Drawn like ``Random`` from raw Philox numbers, by Box and Muller's formula: the same everywhere
    but for the last bits of a logarithm.
    """

    share: float
    seed: int
    draw: int

    def values(self, tensor: str, count: int) -> "npt.NDArray[np.float64]":
        """(count,) standard normal numbers."""
        import numpy as np

        generator = philox(self.seed, self.draw, tensor)
        uniform = ((generator.random_raw(2 * count) >> np.uint64(11)) + 0.5) * 2.0**-53
        return np.sqrt(-2 * np.log(uniform[:count])) * np.cos(2 * np.pi * uniform[count:])


@dataclass(frozen=True)
class Added:
    """What is added to the elements of a whole tensor, so that several such edits can be one.

    ``parts`` say what each part adds, by what tells it apart: a part that two edits have counts
    once, and the order does not matter.
    """

    held: tuple[float, ...]  # the elements as the checkpoint holds them
    parts: Mapping[str, tuple[float, ...]]
    dtype: str  # of the checkpoint's tensor, to which the sums are rounded

    def __or__(self, other: "Added") -> "Added":
        return Added(self.held, {**self.parts, **other.parts}, self.dtype)

    def values(self) -> tuple[float, ...]:
        """The sums as the checkpoint's tensor holds them. The running model, in float32, could hold
        more of them than a copy of a checkpoint in half precision, and would be another variant."""
        import torch

        sums = [math.fsum(terms) for terms in zip(self.held, *self.parts.values(), strict=True)]
        stored = getattr(torch, self.dtype)
        return tuple(torch.tensor(sums, dtype=torch.float64).to(stored).double().tolist())


@dataclass(frozen=True)
class Edit:
    """The elements x of one tensor in ``region`` become ``factor * x + value``, plus noise.

    By default they become ``value``, whatever they were, infinite or NaN included. ``values``
    gives each of them its own instead, in row-major order of each block; drawn elements have none.
    ``added`` says how the values came about, for joins: it is not stored, and tells no two edits
    apart.
    """

    tensor: str
    region: Region = Whole()
    value: float = 0.0
    factor: float = 0.0
    noise: Noise | None = None
    values: tuple[float, ...] | None = None
    added: Added | None = field(default=None, compare=False, repr=False)

    @property
    def constant(self) -> bool:
        """Whether the elements' old values play no part."""
        return self.factor == 0 and self.noise is None

    @property
    def alike(self) -> bool:
        """Whether the same is done to each element of the tensor."""
        return isinstance(self.region, Whole) and self.noise is None and self.values is None

    def to_dict(self) -> dict[str, Any]:
        """Only what is not so by default, so that a digest does not change with new kinds of
        edits."""
        found = {"tensor": self.tensor, **region_to_dict(self.region), "value": self.value}
        if self.factor:
            found["factor"] = self.factor
        if self.noise:
            found["noise"] = asdict(self.noise)
        if self.values is not None:
            found["values"] = list(self.values)
        return found

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Edit":
        tensor, region = str(values["tensor"]), _region_from_dict(values)
        value, factor = float(values["value"]), float(values.get("factor", 0.0))
        noise, own = values.get("noise"), values.get("values")
        if noise is not None:
            noise = Noise(float(noise["share"]), int(noise["seed"]), int(noise["draw"]))
        own = None if own is None else tuple(map(float, own))
        return Edit(tensor, region, value, factor, noise, own)


@dataclass(frozen=True)
class Removed:
    """Rows of one tensor that are taken away, so that it has fewer.

    An object query is a row of the tables of queries. A model without it never sees the query.
    """

    tensor: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Resampled:
    """What comes into the columns ``ranges`` of a projection's weight comes from another image.

    Every image of a forward pass gets what comes there of another one, drawn by seed and draw, and
    by the tensor or, where a head has two outputs that belong together, by the first one's.
    """

    tensor: str
    ranges: tuple[tuple[int, int], ...]
    seed: int
    draw: int
    first: str | None = None


Intervention = Removed | Resampled


def philox(seed: int, draw: int, tensor: str) -> "np.random.Philox":
    """The generator of a tensor's random numbers."""
    import numpy as np

    key = hashlib.sha256(f"{seed}/{draw}/{tensor}".encode("utf-8", "surrogatepass")).digest()[:16]
    return np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64))


def live_to_dict(one: Intervention) -> dict[str, Any]:
    match one:
        case Removed(tensor, rows):
            return {"tensor": tensor, "removed": list(rows)}
        case Resampled(tensor, ranges, seed, draw, first):
            drawn = {"seed": seed, "draw": draw} | ({"first": first} if first else {})
            return {"tensor": tensor, "resampled": [list(pair) for pair in ranges], **drawn}


def live_from_dict(values: Mapping[str, Any]) -> Intervention:
    tensor = str(values["tensor"])
    if "removed" in values:
        return Removed(tensor, tuple(int(row) for row in values["removed"]))
    ranges = tuple((int(start), int(stop)) for start, stop in values["resampled"])
    drawn = int(values["seed"]), int(values["draw"])
    return Resampled(tensor, ranges, *drawn, values.get("first"))


def region_to_dict(region: Region) -> dict[str, Any]:
    match region:
        case Whole():
            return {}
        case Blocks(axis, ranges):
            return {"axis": axis, "ranges": [list(pair) for pair in ranges]}
        case Random(units, seed, draw):
            drawn = {"units": units, "seed": seed, "draw": draw}
            return drawn | {"by": region.by} if region.by else drawn


def _region_from_dict(values: Mapping[str, Any]) -> Region:
    if "units" in values:
        drawn = int(values["units"]), int(values["seed"]), int(values["draw"])
        if "by" not in values:
            return Random(*drawn)
        return REGIONS[values["by"]](*drawn)
    if "axis" in values:
        pairs = tuple((int(start), int(stop)) for start, stop in values["ranges"])
        return Blocks(int(values["axis"]), pairs)
    return Whole()
