"""The elements that Deep Dissect draws: by other generators than ours, and not ones of heads."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ablate_kit.ablations.edits import Random
from ablate_kit.errors import UserError

# Fixed in its code, whatever the model.
HEADS, WIDTH = 8, 32


@dataclass(frozen=True)
class Permuted(Random):
    """The first ``units`` elements of the ``draw``-th permutation (from 0) by a seeded torch."""

    by: ClassVar[str] = "torch.randperm"

    def parts(self, tensor: str, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.int64]]:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.draw + 1):
            order = torch.randperm(math.prod(shape), generator=generator)
        yield np.sort(order[: self.units].numpy())


@dataclass(frozen=True)
class Stretches(Random):
    """Stretches of 32 columns in ``units`` places, of the ``draw``-th sample of a seeded Python.

    A place is a number below 8 x rows: that modulo 8 says which stretch, that divided by 8 which
    row.
    """

    by: ClassVar[str] = "random.sample"

    def count(self, shape: tuple[int, ...]) -> int:
        return self.units * WIDTH

    def parts(self, tensor: str, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.int64]]:
        # An ablation may come from a file, for another tensor.
        if len(shape) != 2 or shape[1] < HEADS * WIDTH or self.units > HEADS * shape[0]:
            raise UserError(f"{tensor} of shape {shape} has no {self}")
        rows, columns = shape
        generator = random.Random(self.seed)
        for _ in range(self.draw + 1):
            places = np.array(generator.sample(range(HEADS * rows), self.units))
        first = places // HEADS * columns + places % HEADS * WIDTH
        yield np.sort((first[:, None] + np.arange(WIDTH)).ravel())
