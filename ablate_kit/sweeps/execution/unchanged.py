"""Layers after the first change whose input is what it was: what they gave is given again.

Keys and values of an encoder's output are the same in every decoder layer, whatever is cut from the
layers before. That the input is the same is seen from its bytes, so nothing is assumed of how it
came about; that the output is, too, holds for layers that are a function of input and tensors.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.sweeps.execution.identities import Identities, Key

# Functions of one tensor whose time is worth a look at all of it. Not what derives from them.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

_BYTES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def layers(modules: Mapping[nn.Module, str]) -> set[str]:
    """The names of those among ``modules``, on a CPU: on a GPU, a look at the input would be waited
    for, longer than such a layer takes there."""
    return {
        name
        for module, name in modules.items()
        if type(module) in LAYERS
        and "forward" not in vars(module)
        and module.weight.device.type == "cpu"
    }


@dataclass(frozen=True)
class _Given:
    """What a layer was given and what it gave, and how often these had been written into then."""

    input: Tensor
    output: Tensor
    versions: tuple[int, int]

    @property
    def intact(self) -> bool:
        return self.versions == (self.input._version, self.output._version)


class UnchangedLayers:
    """What layers of one model gave for one batch; the tensors of none may change but for a while.

    Args:
        names: of the layers.
    """

    def __init__(self, names: Iterable[str], identities: Identities) -> None:
        self._tensors = {name: set(identities.owned[name]) for name in names}
        self._given: dict[str, _Given] = {}

    def but(self, changed: Collection[Key]) -> "Unchanged":
        """Those that a variant leaves as they are, which changes these tensors."""
        return Unchanged(
            self._given, {one for one, own in self._tensors.items() if own.isdisjoint(changed)}
        )


class Unchanged:
    """In one pass.

    Attributes:
        names: of the layers that are as in the unmodified model.
    """

    def __init__(self, given: dict[str, _Given], names: Collection[str]) -> None:
        self.names = names
        self._known = given
        # Several layers may be given one tensor: it is looked at once.
        self._seen: tuple[Tensor | None, int, Tensor | None] = None, 0, None

    def recall(self, name: str, args: Any, kwargs: Any) -> Tensor | None:
        """What this layer gave for the same input; None where it must be run."""
        known = self._known.get(name)
        if known is None or kwargs or not known.intact:
            return None
        x, version = args[0], args[0]._version
        one, then, other = self._seen
        looked = one is x and other is known.input and then == version
        if not looked and not _same(x, known.input):
            return None
        self._seen = x, version, known.input
        return known.output

    def note(self, name: str, args: Any, kwargs: Any, output: Tensor) -> None:
        """What this layer was given, and gave."""
        if name not in self._known and not kwargs:
            versions = args[0]._version, output._version
            self._known[name] = _Given(args[0], output, versions)


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, in memory as well: kernels round by it."""
    if one is other:
        return True
    if one.shape != other.shape or one.stride() != other.stride() or one.dtype != other.dtype:
        return False
    if one.data_ptr() == other.data_ptr():
        return True
    kind = _BYTES[one.element_size()]
    return torch.equal(one.view(kind), other.view(kind))
