"""Errors of a device, as against those of what runs on it. A leaf, as ``errors``."""

import re

import torch

# Those of libraries have no class of their own.
_MESSAGE = re.compile(r"\b(CUDA|cuDNN|HIP|MIOpen|NCCL|MPS)\b.*\berror\b|\bCU[A-Z]+_STATUS_", re.I)


def is_of_device(error: BaseException) -> bool:
    """Whether a device failed or has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and bool(_MESSAGE.search(str(error)))
