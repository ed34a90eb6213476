"""Digests of files, as receipts record them."""

import hashlib
from pathlib import Path

from .errors import CheckpointError


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; streamed."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
