"""Digests of checkpoints, as receipts record them."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import CheckpointError

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; streamed."""
    return digest([path])


def digest(files: Sequence[Path]) -> str:
    """The SHA-256 of one file; of several, that of what ``sha256sum`` prints for their names.

    So a sharded checkpoint's can be made by ``cd FOLDER; sha256sum INDEX SHARD... | sha256sum``.
    """
    return digest_of(dict.fromkeys(files))


def digest_of(files: Mapping[Path, int | None]) -> str:
    """``digest`` of files of which some are open, under other names, at the given descriptors."""
    listed = {file: _sha256(file, fd) for file, fd in files.items()}
    if len(listed) == 1:
        return next(iter(listed.values()))
    listing = "".join(f"{value}  {file.name}\n" for file, value in listed.items())
    return hashlib.sha256(listing.encode()).hexdigest()


def _sha256(path: Path, fd: int | None) -> str:
    hashed = hashlib.sha256()
    opened = None
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if fd is None else fd
        at = 0
        while chunk := os.pread(opened, _CHUNK, at):
            hashed.update(chunk)
            at += len(chunk)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    finally:
        if fd is None and opened is not None:
            os.close(opened)
    return hashed.hexdigest()
