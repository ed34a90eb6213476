"""Digests of checkpoints, as receipts record them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from .errors import CheckpointError


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; streamed."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None


def digest(files: Sequence[Path]) -> str:
    """The SHA-256 of one file; of several, that of what ``sha256sum`` prints for their names.

    So a sharded checkpoint's can be made by ``cd FOLDER; sha256sum INDEX SHARD... | sha256sum``.
    """
    if len(files) == 1:
        return sha256(files[0])
    listing = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()
