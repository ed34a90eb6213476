"""What a sweep evaluates: a detector with something changed, as a plain value.

A variant says what differs; applying it to a live model is that of ``execution.live_variant``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.factors import Factors
from ablate_kit.metrics.result import BASELINE

if TYPE_CHECKING:
    from ablate_kit.sweeps.variants.taken_tensors import TakenTensor


@dataclass(frozen=True, eq=False)
class Variant:
    """A detector with tensors of another checkpoint, an ablation, both, or neither.

    Attributes:
        tensors: what comes from the other checkpoint, by names in ``module.state_dict()``.
        ablation: what is cut, after that.
        factors: its coordinates, as of an ablation.
    """

    name: str
    kind: str
    ablation: Ablation | None = None
    tensors: Mapping[str, "TakenTensor"] = field(default_factory=dict)
    factors: Factors = field(default_factory=dict)

    @staticmethod
    def of(ablation: Ablation) -> "Variant":
        return Variant(ablation.name, ablation.kind, ablation, factors=ablation.factors)

    @cached_property
    def digest(self) -> str:
        """Equal for variants that do the same, whatever their names; empty for the unmodified."""
        parts = [f"{name} {self.tensors[name].digest}" for name in sorted(self.tensors)]
        if not parts:
            return self.ablation.digest if self.ablation else ""
        parts.append(self.ablation.digest if self.ablation else "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


UNMODIFIED = Variant(BASELINE, BASELINE)
