"""Values of the host as tensors on a device, without making the host wait for the device."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=512)
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A small tensor that is uploaded once; for values that come again, such as maps' shapes.

    It is shared by all callers, who must not change it.
    """
    with torch.inference_mode(False):  # a later caller may need gradients
        return torch.tensor(values, dtype=dtype, device=device)


def uploaded(values: Sequence[Any] | Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Values that differ from call to call, through pinned memory."""
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
