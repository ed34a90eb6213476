"""A changed copy of an archive: other values in place, every other byte as it was.

Example: a copy of ``best.pth`` in which the first 32 rows of a weight are zero.

    with open_checkpoint(Path("best.pth")) as checkpoint:
        weight = checkpoint.tensor("decoder.layers.0.self_attn.in_proj_weight")
        rows = Change(weight.name, bytes(weight.itemsize), (slice(0, 32),))
        write_patched(checkpoint.archive, [rows], Path("ablated.pth"))
"""

import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from .archive import Archive
from .atomic import new_file, new_folder
from .digest import digest_of
from .elements import Change, bytes_of, write_elements, write_through
from .errors import CheckpointError
from .folders import copy_others
from .tensors import Storage
from .weights import Checkpoint

__all__ = ["Change", "Notes", "bytes_of", "copy_folder_patched", "write_patched"]

_CHUNK = 1 << 20


Notes = Callable[[str], Mapping[str, str]]
"""From the digest of the copy, text files to put beside it or into it, by name."""


def write_patched(
    archive: Archive,
    changes: Iterable[Change],
    destination: Path,
    *,
    overwrite: bool = False,
    notes: Notes | None = None,
) -> None:
    """Write a copy of ``archive``'s file with ``changes`` made to it, one after the other.

    ``changes`` may be a generator that reads a tensor, yields its change and forgets it: one is
    held at a time. Tensors that share bytes change together. The copy appears at ``destination``
    when it is complete and on disk; on any failure nothing is left behind and what was there
    before stays. ``notes`` are put beside it just before. Raises ``CheckpointError`` for changes
    that do not fit, and where ``destination`` is the archive's own file, or exists and
    ``overwrite`` is false.
    """
    if len(archive.files) > 1:
        raise CheckpointError(f"{archive.path} lists several files; a copy of it is a folder")
    if _is_same(archive.path, destination):
        raise CheckpointError(f"{destination} is the checkpoint itself; write the copy elsewhere")
    placed: list[Path] = []
    try:
        with new_file(destination, overwrite=overwrite) as fd:
            _write_copy(archive, changes, {archive.path: fd})
            for name, text in notes(digest_of({destination: fd})).items() if notes else ():
                _write_note(destination.with_name(name), text, overwrite)
                placed.append(destination.with_name(name))
    except BaseException:
        for note_path in placed:
            note_path.unlink(missing_ok=True)
        raise


def copy_folder_patched(
    checkpoint: Checkpoint,
    changes: Iterable[Change],
    destination: Path,
    *,
    overwrite: bool = False,
    notes: Notes | None = None,
) -> None:
    """Write a copy of a Hugging Face folder with ``changes`` made to its weights.

    Everything else is copied too (configuration, processors, code), except for other files of
    weights, version control and caches, and except for what is neither a file nor a folder. A
    link is replaced by what it points to, which must lie in the folder or, in the hub's cache,
    among its blobs. ``notes`` are put into it. As ``write_patched``
    otherwise; an old folder at ``destination`` is replaced as a whole.
    """
    folder = checkpoint.folder
    if folder is None:
        raise CheckpointError(f"{checkpoint.path} is a file, not a Hugging Face folder")
    here, there = folder.resolve(), destination.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise CheckpointError(
            f"{destination} and the checkpoint's folder {folder} lie in one another; "
            "write the copy elsewhere"
        )
    with new_folder(destination, overwrite=overwrite) as temporary:
        archive = checkpoint.archive
        copy_others(folder, temporary)
        if archive.path not in archive.sources:
            shutil.copyfile(archive.path, temporary / archive.path.name)  # an index of shards
        with ExitStack() as files:
            fds = {
                path: files.enter_context(new_file(temporary / path.name))
                for path in archive.sources
            }
            _write_copy(archive, changes, fds)
            if notes:
                index = {path: None for path in archive.files if path not in fds}
                for name, text in notes(digest_of({**index, **fds})).items():
                    _write_note(temporary / name, text, overwrite=True)


def _write_note(path: Path, text: str, overwrite: bool) -> None:
    content = text.encode()
    with new_file(path, overwrite=overwrite) as fd:
        write_through(fd, 0, memoryview(content), len(content))


def _write_copy(archive: Archive, changes: Iterable[Change], fds: Mapping[Path, int]) -> None:
    """Write the archive's files with ``changes`` to the open files ``fds``, by their paths."""
    for path, source in archive.sources.items():
        _copy_bytes(source.fileno(), fds[path], source.size)
        source.check_unchanged()
    touched: dict[Storage, None] = {}
    for change in changes:
        info = archive.tensor(change.tensor)
        write_elements(fds[info.file], info, change)
        touched[info.storage] = None
    for storage in touched:
        _update_checksums(fds[storage.file], storage)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy a whole file in the kernel, which clones instead where the file system can."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done, done, done)
        except OSError:
            count = 0  # not between these file systems; a real fault (a full disk) comes again
        if count == 0:
            chunk = os.pread(source, min(_CHUNK, size - done), done)
            if not chunk:
                raise CheckpointError("the checkpoint was cut short while it was copied")
            count = os.pwrite(target, chunk, done)
        done += count


def _update_checksums(fd: int, storage: Storage) -> None:
    if not storage.checksums:
        return
    crc = 0
    end = storage.offset + storage.nbytes
    for start in range(storage.offset, end, _CHUNK):
        crc = zlib.crc32(os.pread(fd, min(_CHUNK, end - start), start), crc)
    for position in storage.checksums:
        os.pwrite(fd, struct.pack("<L", crc), position)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
