"""A digest within a JSON object: that a value in it became another on the disk is noticed.

It keeps out damage, and files put together from several runs; not who computes the digest anew.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from detector.errors import UserError

SEAL = "digest"
_SEALED = re.compile(rb'"digest": ?"[0-9a-f]{64}"}\s*$')


class ChangedError(UserError):
    """What was read is not what was written."""

    def __init__(self) -> None:
        super().__init__("it was changed after it was written, or is damaged")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with the digest of it."""
    return {**value, SEAL: _digest(value)}


def unsealed(value: Any) -> Any:
    """``value`` without its digest; itself where it has none, as of earlier versions.

    Raises ``ChangedError`` where the digest is that of another.
    """
    if not isinstance(value, dict) or SEAL not in value:
        return value
    rest = {name: one for name, one in value.items() if name != SEAL}
    if value[SEAL] != _digest(rest):
        raise ChangedError
    return rest


def is_sealed(line: bytes) -> bool:
    """Whether an object's line of JSON has a digest, right or not."""
    return _SEALED.search(line) is not None


def _digest(value: Mapping[str, Any]) -> str:
    read = json.loads(json.dumps(value))  # keys are text there, by which they are sorted
    text = json.dumps(read, sort_keys=True)  # all other characters are escaped
    return hashlib.sha256(text.encode("ascii")).hexdigest()
