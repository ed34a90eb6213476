"""One process at a time in a folder that is written to over hours."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.disk.atomic import parents_made
from detector.errors import UserError

NAME = ".lock"
_held: set[int] = set()  # descriptors of this process


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes ``folder`` where there is none, and keeps other processes out of it.

    The lock is one of the system's (``flock``): it ends with the process, however that ends, and a
    file that is left behind locks nothing. A file system without locks locks nobody out.

    Raises:
        UserError: another process, or another part of this one, is in the folder.
    """
    new = [one for one in (folder / NAME).absolute().parents if not one.exists()]
    try:
        with parents_made(folder / NAME):
            fd = _opened(folder / NAME)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot use the folder {folder}: {reason}") from None
    if fd is None:
        raise UserError(
            f"{folder} is in use{_by(folder / NAME)}; wait until that has ended, or choose another "
            "folder"
        )
    _held.add(fd)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
            for one in new:
                one.rmdir()  # where nothing was written
        _held.discard(fd)
        os.close(fd)


@contextmanager
def shared(folder: Path) -> Iterator[Callable[[], bool]]:
    """Uses a folder beside other processes; what is given tells whether no other one does, which
    nobody knows on a file system without locks."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def alone() -> bool:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield alone
    finally:
        os.close(fd)


def _opened(path: Path) -> int | None:
    """A descriptor of the locked file; None where another holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            if not _lock(fd):
                os.close(fd)
                return None
            # Whoever held it before may have removed the file that was opened here.
            if os.path.lexists(path) and os.path.samestat(os.fstat(fd), path.stat()):
                try:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                except OSError:  # such as on a full disk
                    path.unlink(missing_ok=True)
                    raise
                return fd
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
    return True


def _by(path: Path) -> str:
    try:
        text = path.read_bytes()[:200].decode(errors="replace").strip()
    except OSError:
        return ""
    return f" by {text}" if text.startswith("process ") and text.isprintable() else ""


def _forget_in_child() -> None:
    """A forked child does not hold what its parent holds: it may outlive it by seconds."""
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
