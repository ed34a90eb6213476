"""Functions that torch compiles when a GPU first asks for them."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

# Each map size, type and direction has kernels of its own. Past its limit, 8 by default, torch
# would run the function as it is written, which is slower and takes far more memory.
MOST_KERNELS = 64


def run_compiled(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The function's result, by kernels made for these shapes."""
    from torch._dynamo import config  # the compiler is slow to import

    with config.patch(recompile_limit=MOST_KERNELS), warnings.catch_warnings():
        # The compiler asks every tensor for its gradient, proposes TF32, and uses what torch
        # deprecates; a user can do nothing about any of it.
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        return _compiled(function)(*arguments, **named)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)
