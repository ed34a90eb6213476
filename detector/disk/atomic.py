"""Writing a file or folder so that others see the old one, or the complete new one, or none."""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from detector.errors import UserError

_TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{12}\.tmp", re.DOTALL)
_LONGEST = 255  # bytes of a file's name
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # a copy names what it reads, too


class CannotWriteError(UserError):
    """The system does not let a file or folder be written, whatever would be in it."""

    def __init__(self, destination: Path, error: OSError) -> None:
        super().__init__(f"cannot write {destination}: {error.strerror or error}")
        self.destination, self.error = destination, error


@contextmanager
def new_file(destination: Path, *, overwrite: bool = False) -> Iterator[int]:
    """A file descriptor, for reading and writing, of what becomes ``destination`` at the end.

    The bytes go to a temporary file beside it, which is renamed when the block ends well and
    removed when it does not; one that a killed process left is removed by the next that writes
    the same destination. Where it replaces a file it is synchronized to disk before, so that not
    even a power failure leaves neither; a new one reaches the disk in the system's own time, as
    with ``cp``. Folders that it lies in are made, as by ``parents_made``. Raises ``UserError``
    where ``destination`` exists (unless ``overwrite``) or cannot be written.
    """
    destination = destination.absolute()
    with _explained(destination), parents_made(destination):
        _check_free(destination, overwrite)
        if destination.is_dir():
            raise UserError(f"{destination} is a folder; a file is written")
        temporary, fd = _begun(destination, _new_file)
        held = os.dup(fd)  # until the file is in its place
        try:
            try:
                yield fd
                if destination.exists():
                    os.fsync(fd)
            finally:
                os.close(fd)
            _check_free(destination, overwrite)
            temporary.replace(destination)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(held)


@contextmanager
def new_stream(destination: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """``new_file`` as a buffered file object, for libraries that write to one."""
    with new_file(destination, overwrite=overwrite) as fd, os.fdopen(os.dup(fd), "wb") as file:
        yield file


def new_text(destination: Path, text: str, *, overwrite: bool = False) -> None:
    """``new_file`` of a short text, in UTF-8."""
    with new_stream(destination, overwrite=overwrite) as file:
        file.write(text.encode())


def new_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """``new_file`` of each, in place of what is there; where one cannot be written, none is."""
    with ExitStack() as files:
        for name, content in contents.items():
            file = files.enter_context(new_stream(folder / name, overwrite=True))
            file.write(content)
            file.flush()


@contextmanager
def new_folder(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that becomes it when the block ends well.

    An old folder is moved aside before and removed after: between the two there is none. A killed
    process leaves no half of a folder; a power failure may leave files that are not yet on disk.
    Folders that it lies in are made, as by ``parents_made``.
    """
    destination = destination.absolute()
    with _explained(destination), parents_made(destination):
        _check_free(destination, overwrite)
        if destination.exists() and not destination.is_dir():
            raise UserError(f"{destination} is a file; a folder is written")
        old = _beside(destination)
        with folder_beside(destination) as temporary:
            yield temporary
            _check_free(destination, overwrite)
            try:
                if destination.exists():
                    destination.rename(old)
                temporary.rename(destination)
            except BaseException:
                if old.exists() and not destination.exists():
                    old.rename(destination)
                raise
        try:
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:  # by a signal: no later call looks for it
            shutil.rmtree(old, ignore_errors=True)
            raise


@contextmanager
def new_together(destinations: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """Where to write each of several files and folders, which appear when the block ends well.

    A process that is killed leaves none of them, unless that is while they are moved, in their
    order. Otherwise as ``new_folder``.
    """
    with ExitStack() as block:
        folders: dict[Path, Path] = {}  # in that of what is moved there, so that it can be renamed
        for one in destinations:
            folder = one.absolute().parent
            if folder not in folders:
                block.enter_context(_explained(one.absolute()))
                block.enter_context(parents_made(one))
                folders[folder] = block.enter_context(folder_beside(folder / "together"))
        places = {one: folders[one.absolute().parent] / one.name for one in destinations}
        try:
            yield places
        except CannotWriteError as failed:
            for one, place in places.items():
                if _is_of(failed.destination, place):
                    raise CannotWriteError(one, failed.error) from None
            raise
        moved: list[Path] = []
        try:
            for one, place in places.items():
                _check_free(one, overwrite=False)
                moved.append(one)
                place.rename(one)
        except BaseException:
            for one in moved:
                if not os.path.lexists(places[one]):
                    one.rename(places[one])
            raise


def _is_of(path: Path, place: Path) -> bool:
    """Whether something is written for a place: itself, in it, or beside it before it is moved."""
    if place.parent not in path.parents:
        return False
    first = path.relative_to(place.parent).parts[0]
    return first == place.name or is_temporary(Path(first), place.name)


@contextmanager
def folder_beside(destination: Path) -> Iterator[Path]:
    """A temporary folder beside ``destination``, removed at the end if it is still there."""
    temporary, fd = _begun(destination, _new_folder)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(fd)


@contextmanager
def parents_made(destination: Path) -> Iterator[None]:
    """Makes the folders in which ``destination`` is to lie; those that are empty when the block
    fails go again."""
    missing = [folder for folder in destination.absolute().parents if not folder.exists()]
    try:
        if missing:
            destination.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


def is_temporary(path: Path, of: str | None = None) -> bool:
    """Whether something (that is to be called ``of``) is under way, or was when its process was
    killed."""
    found = _TEMPORARY.fullmatch(path.name)
    return found is not None and of in (None, found[1])


def remove_temporaries(folder: Path) -> None:
    """Removes what killed processes left in ``folder``; nobody else may be writing there now."""
    for path in folder.glob(".*.tmp"):
        if not is_temporary(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_torn(path: Path) -> None:
    """Removes a temporary file or folder unless a process is still writing it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        with suppress(OSError):  # held, or nobody can tell
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(fd, path):  # moved into place meanwhile; another's may be there now
                return
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    finally:
        os.close(fd)


def _begun(destination: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """What ``make`` makes, and the descriptor that it returns, which holds a lock (``flock``).

    The name is always the same, so that what a killed process left is found without a look at
    whole folders; a second process that writes the same destination takes another.
    """
    usual = _beside(destination, "0" * 12)
    if os.path.lexists(usual):
        remove_torn(usual)
    own = usual
    while True:
        with suppress(FileExistsError):
            fd = make(own)
            if _held(fd, own):
                return own, fd
            os.close(fd)  # another has just taken it for torn, and removes it
        own = _beside(destination)


def _held(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.EWOULDBLOCK  # or it can be told of nobody's file
    return _is_at(fd, path)


def _is_at(fd: int, path: Path) -> bool:
    """Whether an open file or folder is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _new_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _check_free(destination: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(destination):
        raise UserError(f"{destination} exists; choose another place or remove it")


def _beside(destination: Path, name: str = "") -> Path:
    end = f".{name or os.urandom(6).hex()}.tmp"
    start = os.fsencode(destination.name)[: _LONGEST - 1 - len(end)]
    return destination.with_name(f".{os.fsdecode(start)}{end}")


@contextmanager
def _explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = error.filename
        if (
            isinstance(named, str)
            and destination.parent not in Path(named).absolute().parents
            and error.errno not in _OF_WRITING
        ):
            raise  # it tells of another file, which was read in the block
        raise CannotWriteError(destination, error) from None
