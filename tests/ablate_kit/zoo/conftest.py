"""What is in this folder needs torchvision and LibreYOLO, in an environment of its own."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Their own warnings are none of ours."""
    here = Path(__file__).parent
    absent = find_spec("torchvision") is None or find_spec("libreyolo") is None
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.zoo)
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if absent:
                item.add_marker(pytest.mark.skip(reason="no torchvision and LibreYOLO here"))
