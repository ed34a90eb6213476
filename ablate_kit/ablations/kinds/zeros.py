"""Whole tensors that become zero. It imports little, so that ``ablate component`` starts fast."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import Factors

# Of weight normalization: a direction, which is divided by its norm, and the magnitude beside it.
_DIRECTION = re.compile(
    r"(?P<place>.*parametrizations\.\w+\.original)1|(?P<old>(.*\.)?weight\w*)_v"
)


def component(
    tensors: Iterable[str],
    label: str,
    factors: Factors | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Ablation:
    """These tensors become zero."""
    edits = tuple(zeroed(tensors, shapes))
    return Ablation(label, "component", edits, factors=factors or {"target": label})


def zeroed(tensors: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Edit]:
    """Every element of these tensors becomes zero; but for directions of weights whose magnitude is
    among them and makes the weights zero: at zero, these would be NaN."""
    names = dict.fromkeys(tensors)
    return (Edit(name) for name in names if not names.keys() & _magnitudes(name, shapes))


def _magnitudes(name: str, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The magnitude that belongs to a direction, none to any other tensor."""
    found = _DIRECTION.fullmatch(name)
    if not found:
        return set()
    other = f"{found['place']}0" if found["place"] else f"{found['old']}_g"
    own, length = shapes.get(name, ()), shapes.get(other, ())
    fits = len(own) == len(length) and all(b in (1, a) for a, b in zip(own, length, strict=True))
    return {other} if fits and own != length else set()
