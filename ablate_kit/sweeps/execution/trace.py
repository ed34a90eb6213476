"""What happens in a forward pass, and when: module calls, and the first use of every tensor.

Time is counted in ticks: one per operation, per start and per end of a module call.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ablate_kit.sweeps.execution.identities import CallId, Key
from ablate_kit.sweeps.execution.recorded_output import Outputs
from ablate_kit.sweeps.execution.unchanged import UnchangedLayers

NEVER = math.inf


@dataclass(eq=False)
class Call:
    """One call of a module, or the pass itself, which has no number."""

    id: CallId
    start: int
    end: float = NEVER
    children: list["Call"] = field(default_factory=list)
    nbytes: int = 0  # of its output
    given: int = 0  # bytes of its input
    # The last tick at which anything of the model went into its input; NEVER: not followed.
    depends: float = NEVER
    seconds: float = 0.0
    is_pure: bool = False  # whether its output is all that it did
    structure: Any = None  # of its output, as ``pytree`` has it

    def all(self) -> Iterator["Call"]:
        """This call and all calls within it."""
        yield self
        for child in self.children:
            yield from child.all()

    def unchanged_after(self, tick: float) -> Iterator["Call"]:
        """Calls that begin at ``tick`` or later, into whose input nothing goes that is younger."""
        return (one for one in self.all() if one.depends < tick <= one.start)

    def finished_before(self, tick: float) -> list["Call"]:
        """The largest calls that ended before ``tick``, whose output can stand for them."""
        found = []
        for child in self.children:
            if child.start >= tick:
                break
            if child.end < tick and child.is_pure:
                found.append(child)
            else:
                found.extend(child.finished_before(tick))
        return found


@dataclass(eq=False)
class Trace:
    """A pass over one batch: its calls, and when each tensor of the model was first used.

    Attributes:
        first_use: has no entry for a tensor that was not used.
        layers: what passes that follow this one have in common; None: they share nothing.
        changed: what differs from the model of ``layers``.
    """

    root: Call
    first_use: dict[Key, float]
    outputs: Outputs
    layers: UnchangedLayers | None = None
    changed: frozenset[Key] = frozenset()

    def restart(self, changed: Iterable[Key]) -> float:
        """The tick at which a pass with these tensors changed begins to differ."""
        return min((self.first_use.get(key, NEVER) for key in changed), default=NEVER)


def tensors_in(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """What keeping these tensors keeps: a view keeps all of the memory that it looks at."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())
