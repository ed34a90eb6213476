"""Digests of checkpoints, as receipts record them."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.edit.embedded_text import head_of, stripped
from ablate_kit.checkpoints.weights import Checkpoint
from ablate_kit.errors import CheckpointError
from detector.disk.visible import is_of_macos

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
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()


def digest_of_archive(archive: Archive) -> str:
    """``digest`` of what an open archive reads: also where its files were replaced meanwhile.

    Raises ``CheckpointError`` where they were written to.
    """
    open_at = {path: source.fileno() for path, source in archive.sources.items()}
    found = digest_of({path: open_at.get(path) for path in archive.files})
    for source in archive.sources.values():
        source.check_unchanged()
    return found


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """Of the file, or of all files of the folder."""
    if not checkpoint.folder:
        return digest_of_archive(checkpoint.archive)
    files = (one for one in sorted(checkpoint.folder.iterdir()) if not is_of_macos(one.name))
    return digest_of_names([one for one in files if one.is_file()])


def digest_of_names(files: Sequence[Path]) -> str:
    """A digest of the files' names and contents; empty where there is none."""
    if not files:
        return ""
    text = "\n".join(f"{one.name} {sha256(one)}" for one in files)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest_without_receipt(archive: Archive) -> str:
    """``digest`` of what an archive was before its receipt was put into it, if one was."""
    if archive.format != "safetensors":
        return digest_of_archive(archive)
    source = archive.sources[archive.path]
    head = head_of(source)
    return digest_behind(stripped(head), archive.path, source.fileno(), len(head))


def digest_behind(head: bytes, path: Path, fd: int, start: int) -> str:
    """The SHA-256 of ``head`` and of what the file open at ``fd`` holds from ``start`` on."""
    hashed = hashlib.sha256(head)
    try:
        while chunk := os.pread(fd, _CHUNK, start):
            hashed.update(chunk)
            start += len(chunk)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    return hashed.hexdigest()


def _sha256(path: Path, fd: int | None) -> str:
    if fd is not None:
        return digest_behind(b"", path, fd, 0)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
