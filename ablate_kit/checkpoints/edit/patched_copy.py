"""A changed copy of an archive: other values in place, every other byte as it was.

Example: a copy of ``best.pth`` in which the first 32 rows of a weight are zero.

    with open_checkpoint(Path("best.pth")) as checkpoint:
        weight = checkpoint.tensor("decoder.layers.0.self_attn.in_proj_weight")
        rows = ElementPatch(weight.name, bytes(weight.itemsize), (slice(0, 32),))
        write_patched(checkpoint.archive, [rows], Path("ablated.pth"))
"""

import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.digest import digest_behind, digest_of
from ablate_kit.checkpoints.edit.elements import ElementPatch, write_elements, write_through
from ablate_kit.checkpoints.edit.embedded_text import BLOCK, head_of, place_in, stripped
from ablate_kit.checkpoints.edit.folder_copies import copy_others
from ablate_kit.checkpoints.tensors import Storage
from ablate_kit.checkpoints.weights import Checkpoint
from ablate_kit.errors import CheckpointError
from detector.disk.atomic import new_file, new_folder, new_text

_CHUNK = 1 << 20


Note = Callable[[str | None], str]
"""A copy's receipt, from the copy's digest; from None, a text as long as that."""


def write_patched(
    archive: Archive,
    changes: Iterable[ElementPatch],
    destination: Path,
    *,
    note: Note | None = None,
    note_path: Path | None = None,
) -> None:
    """Write a copy of ``archive``'s file with ``changes`` made to it, one after the other.

    ``changes`` may be a generator that reads a tensor, yields its change and forgets it: one is
    held at a time. Tensors that share bytes change together. The copy appears at ``destination``
    when it is complete; on any failure nothing is left behind.
    ``note`` is put at ``note_path`` just before, or, where that is None, into the metadata of
    the copy, which must be a safetensors file (see ``embedded``); the digest is that of the copy
    without it. Raises ``CheckpointError`` for changes that do not fit, and where ``destination`` is
    the archive's own file; ``UserError`` where it exists, or cannot be written.
    """
    if len(archive.files) > 1:
        raise CheckpointError(f"{archive.path} lists several files; a copy of it is a folder")
    if _is_same(archive.path, destination):
        raise CheckpointError(f"{destination} is the checkpoint itself; write the copy elsewhere")
    placed = False
    try:
        with new_file(destination) as fd:
            if note and not note_path:
                _write_noted(archive, changes, fd, note)
                return
            _write_copy(archive, changes, {archive.path: fd})
            if note and note_path:
                text = note(digest_of({destination: fd}))
                new_text(note_path, text)
                placed = True
    except BaseException:
        if placed and note_path:
            note_path.unlink(missing_ok=True)
        raise


def copy_folder_patched(
    checkpoint: Checkpoint,
    changes: Iterable[ElementPatch],
    destination: Path,
    *,
    note: Note | None = None,
    note_name: str = "",
) -> None:
    """Write a copy of a Hugging Face folder with ``changes`` made to its weights.

    Everything else is copied too (configuration, processors, code), except for other files of
    weights, version control and caches, and except for what is neither a file nor a folder. A
    link is replaced by what it points to, which must lie in the folder or, in the hub's cache,
    among its blobs. ``note`` is put into it under ``note_name``. As ``write_patched``
    otherwise.
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
    with new_folder(destination) as temporary:
        archive = checkpoint.archive
        copy_others(folder, temporary, archive.files)
        if archive.path not in archive.sources:
            shutil.copyfile(archive.path, temporary / archive.path.name)  # an index of shards
        with ExitStack() as files:
            fds = {
                path: files.enter_context(new_file(temporary / path.name))
                for path in archive.sources
            }
            _write_copy(archive, changes, fds)
            if note:
                index = {path: None for path in archive.files if path not in fds}
                text = note(digest_of({**index, **fds}))
                new_text(temporary / note_name, text, overwrite=True)


def _write_noted(archive: Archive, changes: Iterable[ElementPatch], fd: int, note: Note) -> None:
    """Write a safetensors file with ``changes`` and a receipt in its metadata to ``fd``."""
    source = archive.sources[archive.path]
    old = head_of(source)
    head = stripped(old)
    place = place_in(source)
    if place is None:
        raise CheckpointError(f"{archive.path}: its header has no place for a receipt")
    start = len(place.embedded(note(None)))
    shift = start - len(old)
    # Up to a block's end, and from there on: whole blocks can be cloned.
    border = min(-(-len(old) // BLOCK) * BLOCK, source.size)
    _copy_bytes(source.fileno(), fd, len(old), border, shift)
    _copy_bytes(source.fileno(), fd, border, source.size, shift)
    source.check_unchanged()
    for change in changes:
        info = archive.tensor(change.tensor)
        write_elements(fd, replace(info, offset=info.offset + shift), change)
    digest = digest_behind(head, archive.path, fd, start)
    write_through(fd, 0, memoryview(place.embedded(note(digest))), start)


def _write_copy(archive: Archive, changes: Iterable[ElementPatch], fds: Mapping[Path, int]) -> None:
    """Write the archive's files with ``changes`` to the open files ``fds``, by their paths."""
    for path, source in archive.sources.items():
        _copy_bytes(source.fileno(), fds[path], 0, source.size)
        source.check_unchanged()
    touched: dict[Storage, None] = {}
    for change in changes:
        info = archive.tensor(change.tensor)
        archive.check(info)  # before its checksum is renewed
        write_elements(fds[info.file], info, change)
        touched[info.storage] = None
    for storage in touched:
        _update_checksums(fds[storage.file], storage)


def _copy_bytes(source: int, target: int, start: int, end: int, shift: int = 0) -> None:
    """Copy bytes in the kernel, which clones instead where the file system can."""
    while start < end:
        count = 0
        if hasattr(os, "copy_file_range"):  # not on macOS
            # Not between all file systems; a real fault (a full disk) comes again.
            with suppress(OSError):
                count = os.copy_file_range(source, target, end - start, start, start + shift)
        if count == 0:
            chunk = os.pread(source, min(_CHUNK, end - start), start)
            if not chunk:
                raise CheckpointError("the checkpoint was cut short while it was copied")
            count = os.pwrite(target, chunk, start + shift)
        start += count


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
