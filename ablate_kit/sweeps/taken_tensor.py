"""A tensor that variants take from another checkpoint."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from detector.tensor_bytes import tensor_digest


@dataclass(frozen=True, eq=False)
class TakenTensor:
    value: Tensor

    @cached_property
    def digest(self) -> str:
        """Computed once, however many variants take it."""
        return tensor_digest(self.value)
