"""TF32, the reduced precision that a GPU may use for float32 products."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Whether matrix products and convolutions of float32 on a GPU are rounded to TF32 within.

    PyTorch's own default is "no" for products and "yes" for convolutions. It has an old and a new
    switch for each; ``torch.compile`` asks the old ones, which raise where the two disagree.
    """
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [backend.fp32_precision for backend in backends]
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high" if enabled else "highest")
        torch.backends.cudnn.allow_tf32 = enabled
        for backend in backends:
            backend.fp32_precision = "tf32" if enabled else "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
