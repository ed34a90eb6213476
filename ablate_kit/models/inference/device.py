"""Whether a device can be used, what runs on it, and with how many threads."""

import os
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch

from ablate_kit.errors import UserError


def check_device(name: str) -> None:
    """Raises ``UserError`` for a device that torch does not know or does not have here.

    A GPU is not touched: a process that only hands out work would keep a context on each.
    """
    try:
        device = torch.device(name)
        if device.type != "cuda" or not torch.cuda.is_available():
            torch.zeros(1, device=device).item()  # which meta has not
            return
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # and some twenty that nobody has
            reason = "expected cpu, cuda, cuda:1 or mps"
        if isinstance(error, NotImplementedError):  # of which it says what, at length
            reason = f"PyTorch {torch.__version__} as installed here does not compute on it"
        raise UserError(f'cannot use the device "{name}": {reason}') from None
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        known = "cuda:0 is the only one" if count == 1 else f"the last one is cuda:{count - 1}"
        raise UserError(f'cannot use the device "{name}": {known}')


def waiting_for(device: torch.device) -> Callable[[], None]:
    """Waits until a device has done what it was given to do, which a CPU always has."""
    if device.type == "cpu":
        return lambda: None
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return partial(torch.accelerator.synchronize, device)


def clock_on(device: torch.device) -> Callable[[], float]:
    """Seconds, of which those count that a device is still at work."""
    wait = waiting_for(device)

    def clock() -> float:
        wait()
        return perf_counter()

    return clock


# What the libraries below PyTorch read, that changes bits.
_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


def gpu_libraries() -> str:
    """What beside PyTorch decides on the bits that a GPU computes."""
    found = [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    # Of the first one we set this value ourselves.
    known = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if value and value != known.get(name):
            found.append(f"{name}={value}")
    return ", ".join(found)
