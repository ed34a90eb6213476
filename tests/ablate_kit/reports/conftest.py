"""What is drawn in reports."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> None:
    """Here all is drawn."""
