"""A value with its digest comes back from a file as it was, or not at all."""

import json
from typing import Any

import pytest

from detector.disk.sealed import ChangedError, sealed, unsealed


@pytest.mark.parametrize(
    "value",
    [{}, {"a": {9: 1, 10: 2}}, {"a": float("nan")}, {"a": "\u2028\ud800"}, {"a": (1, -0.0, 1e22)}],
)
def test_what_is_written_is_read(value: dict[str, Any]) -> None:
    text = json.dumps(sealed(value))
    assert json.dumps(unsealed(json.loads(text))) == json.dumps(value)


@pytest.mark.parametrize("changed", [{"a": 2}, {"a": 1, "b": 0}, {}, {"a": True}, {"a": 1.0}])
def test_what_was_changed_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ChangedError):
        unsealed({**changed, "digest": sealed({"a": 1})["digest"]})


def test_what_has_no_digest_is_of_an_earlier_version() -> None:
    assert unsealed({"a": 1}) == {"a": 1}
    assert unsealed([1]) == [1]
