"""What ablations draw, worked out once for a model that undergoes them batch after batch.

To draw 1,000 of 5 million elements takes 5 million random numbers, three times over.
"""

from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

from ablate_kit.ablations.edits import Noise, Random

ROOM = 256 << 20  # bytes

Shape = tuple[int, ...]


class Draws:
    """Keeps what it is asked for until ``room`` bytes are taken: the first stays, as the variants
    of a sweep come round in the same order, and each would push out the next before its turn."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._kept: dict[Hashable, Tensor] = {}

    def mask(self, region: Random, tensor: str, shape: Shape, device: torch.device) -> Tensor:
        """Whether each element is drawn."""

        def make() -> Tensor:
            drawn = np.zeros(shape, dtype=np.bool_)
            for part in region.parts(tensor, shape):
                drawn.reshape(-1)[part] = True
            return torch.from_numpy(drawn).to(device)

        return self._of((region, tensor, shape, device), make)

    def noise(self, noise: Noise, tensor: str, shape: Shape, device: torch.device) -> Tensor:
        """A standard normal number for each element, float64."""

        def make() -> Tensor:
            count = int(np.prod(shape, dtype=np.int64))
            return torch.from_numpy(noise.values(tensor, count)).view(shape).to(device)

        return self._of((noise, tensor, shape, device), make)

    def _of(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        found = self._kept.get(key)
        if found is None:
            found = make()
            if found.nbytes <= self._room:
                self._room -= found.nbytes
                self._kept[key] = found
        return found
