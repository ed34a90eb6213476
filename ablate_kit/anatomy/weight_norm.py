"""Weight normalization keeps two tensors in place of a weight: a direction, which is divided by its
norm, and the magnitude beside it."""

import re
from collections.abc import Mapping
from typing import TypeVar

from ablate_kit.anatomy.head_counts import Shaped
from ablate_kit.errors import UserError

T = TypeVar("T", bound=Shaped)

_DIRECTION = re.compile(
    r"(?P<place>.*parametrizations\.\w+\.original)1|(?P<old>(.*\.)?\w*weight\w*)_v"
)


def magnitude_of(direction: str, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The name of the magnitude that belongs to a direction; None of any other tensor."""
    found = _DIRECTION.fullmatch(direction)
    if not found:
        return None
    other = f"{found['place']}0" if found["place"] else f"{found['old']}_g"
    own, length = shapes.get(direction, ()), shapes.get(other, ())
    fits = len(own) == len(length) and all(b in (1, a) for a, b in zip(own, length, strict=True))
    return other if fits and own != length else None


def normalized(tensors: Mapping[str, T]) -> dict[str, str]:
    """By the names that weights would have without it, their directions."""
    shapes = {name: tuple(one.shape) for name, one in tensors.items()}
    return {_weight(name): name for name in tensors if magnitude_of(name, shapes)}


def _weight(direction: str) -> str:
    return direction.replace("parametrizations.", "").removesuffix(".original1").removesuffix("_v")


def no_heads_in(module: str, direction: str) -> UserError:
    """Of an attention module, one of whose weights is normalized."""
    return UserError(
        f"{direction} is under weight normalization, by which heads of {module} share a norm, so "
        "that none is cut; save the model without it (PyTorch's remove_parametrizations, or "
        "remove_weight_norm)"
    )
