"""Gradient clipping by parts of the model, and a record of what was clipped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class _Part:
    name: str
    parameters: Sequence[nn.Parameter]
    limit: float
    norm: Tensor | None = None  # of the last step, before clipping
    clipped: list[Tensor] = field(default_factory=list)  # per step since the last ``fetch``


class Clipping:
    """Clips the joint gradient norm of each part to its limit, in the order given.

    A parameter may be in several parts; a part's norm is what the parts before it left. Norms stay
    on the device until ``fetch``.
    """

    def __init__(self, parts: Sequence[tuple[str, Sequence[nn.Parameter], float]]) -> None:
        self._parts = [_Part(*part) for part in parts if part[1]]

    def __call__(self) -> Tensor:
        """Clips; returns the norm of the last part as it was."""
        norm = torch.zeros(())
        for part in self._parts:
            norm = part.norm = nn.utils.clip_grad_norm_(part.parameters, part.limit)
            part.clipped.append(norm > part.limit)
        return norm

    def fetch(self) -> dict[str, float]:
        """The last norm of each part before it was clipped, and the share of steps clipped since
        last time; a host sync."""
        record = {}
        for part in self._parts:
            if part.norm is None or not part.clipped:
                continue
            record[f"norm/{part.name}"] = part.norm.item()
            record[f"clipped/{part.name}"] = torch.stack(part.clipped).float().mean().item()
            part.clipped.clear()
        return record
