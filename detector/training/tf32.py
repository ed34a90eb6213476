"""TF32, the reduced precision that a GPU may use for float32 products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Whether matrix products and convolutions of float32 on a GPU are rounded to TF32 within.

    PyTorch's own default is "no" for products and "yes" for convolutions.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if enabled else "ieee"
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
