"""Fixtures that every test may use."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run, on however slow a machine.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

REPOSITORY = Path(__file__).resolve().parents[1]


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
