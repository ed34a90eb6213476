"""Freed memory is used again without the system, and given back at the end."""

import resource
import sys

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


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_what_was_freed_is_used_again_within_and_given_back_after() -> None:
    with kept_freed_memory():
        faults()
        again = faults()
    assert again < PAGES / 10
    assert faults() > PAGES / 5  # a process of many allocations fills gaps, too


def test_another_c_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    with kept_freed_memory():
        assert torch.ones(3).sum() == 3
