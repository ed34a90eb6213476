"""Fixtures that every test may use."""

import gc
import signal
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, find, settings
from hypothesis import strategies as st

from tests.virtual_gpu import virtual_gpu

# The same examples on every run, on however slow a machine.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

REAL_GPU = pytest.param(
    "real",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start: a shell lets what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: it is not searched for garbage, now or in every test."""
    # Makes Hypothesis' own generator, which it misses among what is frozen, from Python 3.14 on.
    find(st.just(0), lambda _: True)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real images, models and recorded outputs beside the checkout; the test skips without them."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("real data folder ../shared is absent")
    return folder


@pytest.fixture(params=["virtual", REAL_GPU])
def gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """``cuda`` is a device: one that is there, or one that shows what is left on the CPU."""
    with virtual_gpu() if request.param == "virtual" else nullcontext():
        yield
