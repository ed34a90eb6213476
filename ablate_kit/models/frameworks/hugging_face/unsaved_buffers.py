"""Buffers that checkpoints do not hold, as a model makes them when it is built.

transformers builds a model without memory, and leaves it to the model to fill such buffers after
loading. Its own models do; modules of other libraries, such as the window attention of timm's Swin,
and those of a folder's own code may not: they would compute with whatever was in memory.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

_THEIRS = ("torch.", "transformers.")


def fill_unsaved_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Gives modules that are neither PyTorch's nor transformers' their unsaved buffers as
    ``build`` makes them, which is called where there are such."""
    names = list(_unsaved(module))
    if not names:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        built = dict(build().named_buffers())
        for name in names:
            module.get_buffer(name).copy_(built[name])


def _unsaved(module: nn.Module) -> Iterator[str]:
    for prefix, owner in module.named_modules():
        if not type(owner).__module__.startswith(_THEIRS):
            for name in owner._non_persistent_buffers_set:
                if owner._buffers[name] is not None:
                    yield f"{prefix}.{name}" if prefix else name
