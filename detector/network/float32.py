"""Coordinates in float32 where autocast runs the rest of the network in half precision.

bf16 has a step of 1/256 between 0.5 and 1: 2.5 pixels of a 640 pixel image.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def without_autocast(function: Callable[P, T]) -> Callable[P, T]:
    """Has a function or method compute in float32, whatever autocast says around it.

    Its floating-point tensors are widened, those in lists and tuples, too. Without autocast nothing
    changes: a float64 model stays one.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        device = _device_type(args)
        if device is None or not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*in_float32(args), **in_float32(kwargs))

    return wrapped


def in_float32(value: Any) -> Any:
    """Every half-precision tensor in nested lists, tuples and dictionaries, as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: in_float32(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(in_float32(item) for item in value)
    return value


def _device_type(args: Any) -> str | None:
    """Where the first tensor lies; None where autocast does not exist, or without a tensor."""
    for value in args:
        if isinstance(value, Tensor):
            kind = value.device.type
            return kind if torch.amp.is_autocast_available(kind) else None
        if type(value) in (list, tuple) and (found := _device_type(value)):
            return found
    return None
