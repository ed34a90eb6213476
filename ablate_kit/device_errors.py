"""Errors of a device, as against those of what runs on it. A leaf that needs no torch."""

import re

# Those of libraries have no class of their own.
_MESSAGE = re.compile(r"\b(CUDA|cuDNN|HIP|MIOpen|NCCL|MPS)\b.*\berror\b|\bCU[A-Z]+_STATUS_", re.I)


def is_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory: Python's own error, or torch's, of a GPU, or of the
    CPU, which has no class of its own."""
    return bool(_classes(error) & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def is_of_device(error: BaseException) -> bool:
    """Whether a device failed or has too little memory."""
    return (
        is_of_memory(error)
        or "AcceleratorError" in _classes(error)
        or (isinstance(error, RuntimeError) and bool(_MESSAGE.search(str(error))))
    )


def _classes(error: BaseException) -> set[str]:
    return {one.__name__ for one in type(error).__mro__}
