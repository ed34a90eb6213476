"""Writing a file or folder so that others see the old one, or the complete new one, or none."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import CheckpointError


@contextmanager
def new_file(destination: Path, *, overwrite: bool = False) -> Iterator[int]:
    """A file descriptor, for reading and writing, of what becomes ``destination`` at the end.

    The bytes go to a temporary file beside it, which is synchronized to disk and renamed when the
    block ends well and removed when it does not. Raises ``CheckpointError`` where ``destination``
    exists (unless ``overwrite``) or cannot be written.
    """
    destination = destination.absolute()
    _check_free(destination, overwrite)
    if destination.is_dir():
        raise CheckpointError(f"{destination} is a folder; a file is written")
    temporary = _beside(destination)
    with _explained(destination):
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)
            _check_free(destination, overwrite)
            temporary.replace(destination)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _synchronize(destination.parent)


@contextmanager
def new_folder(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that becomes it when the block ends well.

    An old folder is moved aside before and removed after: between the two there is none.
    """
    destination = destination.absolute()
    _check_free(destination, overwrite)
    if destination.exists() and not destination.is_dir():
        raise CheckpointError(f"{destination} is a file; a folder is written")
    temporary, old = _beside(destination), _beside(destination)
    with _explained(destination):
        temporary.mkdir()
        try:
            yield temporary
            _synchronize(temporary)
            _check_free(destination, overwrite)
            if destination.exists():
                destination.rename(old)
            temporary.rename(destination)
        except BaseException:
            if old.exists() and not destination.exists():
                old.rename(destination)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _synchronize(destination.parent)
        shutil.rmtree(old, ignore_errors=True)


def _check_free(destination: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(destination):
        raise CheckpointError(f"{destination} exists; it is replaced only with overwrite")


def _beside(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.{secrets.token_hex(6)}.tmp")


@contextmanager
def _explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot write {destination}: {error.strerror or error}") from None


def _synchronize(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
