"""Kernels that give the same bits each time, on a GPU."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from detector.errors import UserError

# What PyTorch says of operations that it has no deterministic kernel for.
_NO_SUCH_KERNEL = (
    "(?s).*(does not have a deterministic implementation|not deterministic because it uses CuBLAS)"
)


@contextmanager
def deterministic_kernels(*, required: bool) -> Iterator[None]:
    """What has no deterministic kernel runs as always within, unless they are ``required``.

    Then it raises ``UserError``, and atomic additions become sorts, which are slower.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at a process' first product
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    searches = torch.backends.cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True, warn_only=not required)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False  # which chooses kernels by how fast they just were
        with warnings.catch_warnings():
            if not required:
                warnings.filterwarnings("ignore", _NO_SUCH_KERNEL, UserWarning)
            yield
    except RuntimeError as error:
        if required and "deterministic" in str(error):
            reason = str(error).partition(". ")[0].partition(", but you set")[0]
            raise UserError(f"training.deterministic: {reason}") from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = searches
