"""What the transformers that is installed has."""

from collections.abc import Mapping
from typing import Any

import pytest


def config_of(values: Mapping[str, Any]) -> Any:
    """A configuration; skips where the library is too old for such a model."""
    from transformers import CONFIG_MAPPING, AutoConfig, __version__

    if values["model_type"] not in CONFIG_MAPPING:
        pytest.skip(f"transformers {__version__} has no {values['model_type']}")
    return AutoConfig.for_model(**values)


def named(model: Any, part: str) -> None:
    """Skips where the library is too old to call a part of the model so."""
    from transformers import __version__

    if not any(part in name for name in model.state_dict()):
        pytest.skip(f"transformers {__version__} has other names than {part}")
