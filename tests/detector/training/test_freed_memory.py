"""Freed memory is used again without the system, and given back at the end."""

import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from detector.training.freed_memory import kept_freed_memory

PAGES = 80 << 20 >> 12  # of 80 MiB


def faults() -> int:
    """Pages that the system had to give while 80 MiB were filled."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [torch.zeros(1 << 18) for _ in range(80)]
    del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def counted() -> tuple[int, int]:
    with kept_freed_memory():
        # The first fills what later ones find, but for pieces that lie in between.
        again = min(faults() for _ in range(6))
    return again, faults()


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_what_was_freed_is_used_again_within_and_given_back_after() -> None:
    # In a process of its own: the gaps of one that ran many tests are filled now and then.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        again, after = pool.submit(counted).result()
    assert again < PAGES / 4  # other pieces lie in between
    assert after > PAGES / 2


def test_another_c_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with kept_freed_memory():
        assert torch.ones(3).sum() == 3
