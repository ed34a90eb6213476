"""The records of a zip archive that stores them as they are, by byte range.

Layout after PKWARE's APPNOTE.TXT. Only what torch writes is accepted: one disk, nothing compressed
or encrypted, headers that agree with the central directory, records that do not overlap. Nothing is
ever decompressed, so a small file cannot become a large one.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.errors import CheckpointError

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")

_LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL_MAGIC = b"PK\x01\x02"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"
_END_MAGIC = b"PK\x05\x06"
_END_64_MAGIC = b"PK\x06\x06"
_LOCATOR_64_MAGIC = b"PK\x06\x07"

_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_CRC_FOLLOWS = 0x0008  # in a data descriptor behind the record
_UTF_8 = 0x0800
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA_16, _IN_EXTRA_32 = 0xFFFF, 0xFFFFFFFF

_Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class ZipRecord:
    """The bytes of one record, their CRC-32, and where in the file that is kept.

    ``crc`` is None where it was not computed, which torch leaves to its user
    (``torch.serialization.set_crc32_options``): the file then says 0.
    """

    name: str
    offset: int
    nbytes: int
    crc: int | None
    checksums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the central directory."""

    name: bytes
    flags: int
    crc: int
    crc_position: int
    nbytes: int
    header: int


def zip_records(source: FileSource) -> dict[str, ZipRecord]:
    """All records of the zip archive ``source``, by name, in the order they lie in the file."""
    start, size, count = _central_directory(source)
    entries = sorted(_entries(source, start, size), key=lambda entry: entry.header)
    if len(entries) != count:
        raise _damaged(source, f"its directory has {len(entries)} entries and claims {count}")
    records: dict[str, ZipRecord] = {}
    read = source.ahead()
    ends = [*(entry.header for entry in entries[1:]), start]  # one too many where there is none
    for entry, end in zip(entries, ends, strict=False):
        record = _record(source, read, entry, end)
        if record.name in records:
            raise _damaged(source, f"it has two records named {show(record.name, 80)}")
        records[record.name] = record
    return records


def _central_directory(source: FileSource) -> tuple[int, int, int]:
    """Offset, size and number of entries."""
    length = min(source.size, _END.size + _LONGEST_COMMENT)
    tail = source.read(source.size - length, length)
    found = tail.rfind(_END_MAGIC)
    if found < 0 or found + _END.size > length:
        raise _damaged(source, "its end record is missing")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, found)
    end = source.size - length + found
    if found + _END.size + comment != length:
        raise _damaged(source, "bytes follow its end record")
    locator = found - _LOCATOR_64.size
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR_64_MAGIC:
        _, _, end, _ = _LOCATOR_64.unpack_from(tail, locator)
        magic, *_, disk, first_disk, here, count_64, size_64, start_64 = _END_64.unpack(
            source.read(end, _END_64.size)
        )
        if magic != _END_64_MAGIC:
            raise _damaged(source, "its zip64 end record is missing")
        if (
            count not in (count_64, _IN_EXTRA_16)
            or size not in (size_64, _IN_EXTRA_32)
            or start not in (start_64, _IN_EXTRA_32)
        ):
            raise _damaged(source, "its two end records disagree")
        count, size, start = count_64, size_64, start_64
    if disk or first_disk or here != count:
        raise _damaged(source, "it is one part of several")
    if start + size != end:
        raise _damaged(source, "its directory does not end where its end record begins")
    return start, size, count


def torchscript(source: FileSource) -> CheckpointError:
    return CheckpointError(
        f"{source.path} is a TorchScript program, not a checkpoint; save its state_dict() with "
        "torch.save"
    )


def _entries(source: FileSource, start: int, size: int) -> Iterator[_Entry]:
    directory = source.read(start, size)
    at = 0
    while at < size:
        if at + _CENTRAL.size > size:
            raise _damaged(source, "its directory is cut short")
        fields = _CENTRAL.unpack_from(directory, at)
        magic, _, _, flags, method, _, _, crc, packed, nbytes = fields[:10]
        name_length, extra_length, comment_length, disk, _, _, header = fields[10:]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_length
        following = extra_at + extra_length + comment_length
        if magic != _CENTRAL_MAGIC or following > size:
            raise _damaged(source, "its directory is garbled")
        name = directory[name_at:extra_at]
        extra = directory[extra_at : extra_at + extra_length]
        nbytes, packed, header, disk = _with_zip64(source, extra, nbytes, packed, header, disk)
        if flags & _ENCRYPTED:
            raise CheckpointError(f"{source.path} holds encrypted records")
        if method != 0 or packed != nbytes:
            if b"/code/__torch__" in name:  # of a program, only the text is compressed
                raise torchscript(source)
            raise CheckpointError(
                f"{source.path} holds compressed records ({show(_text(name, flags), 80)}); "
                "torch.save stores them as they are"
            )
        if disk:
            raise _damaged(source, "it is one part of several")
        yield _Entry(name, flags, crc, start + at + 16, nbytes, header)
        at = following


def _with_zip64(
    source: FileSource, extra: bytes, nbytes: int, packed: int, header: int, disk: int
) -> tuple[int, int, int, int]:
    """The four fields, with those that do not fit their place taken from the extra field."""
    fields = [nbytes, packed, header, disk]
    missing = [position for position in range(3) if fields[position] == _IN_EXTRA_32]
    if disk == _IN_EXTRA_16:
        missing.append(3)
    if not missing:
        return nbytes, packed, header, disk
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = extra[at + 4 : at + 4 + length]
            for position in missing:
                width = 4 if position == 3 else 8
                if len(values) < width:
                    raise _damaged(source, "a zip64 size is missing")
                fields[position] = int.from_bytes(values[:width], "little")
                values = values[width:]
            return fields[0], fields[1], fields[2], fields[3]
        at += 4 + length
    raise _damaged(source, "a zip64 size is missing")


def _record(source: FileSource, read: _Read, entry: _Entry, end: int) -> ZipRecord:
    """The record of ``entry``, which must lie before ``end`` with all that belongs to it."""
    name = _text(entry.name, entry.flags)
    if entry.header + _LOCAL.size > end:
        raise _damaged(source, f"its record {show(name, 80)} overlaps the next")
    magic, _, flags, method, _, _, crc, _, _, name_length, extra_length = _LOCAL.unpack(
        read(entry.header, _LOCAL.size)
    )
    offset = entry.header + _LOCAL.size + name_length + extra_length
    if offset + entry.nbytes > end:
        raise _damaged(source, f"its record {show(name, 80)} overlaps the next or the directory")
    if magic != _LOCAL_MAGIC or method != 0 or flags & _ENCRYPTED:
        raise _damaged(source, f"its record {show(name, 80)} contradicts the directory")
    if read(entry.header + _LOCAL.size, name_length) != entry.name:
        raise _damaged(source, f"its record {show(name, 80)} has another name in its own header")
    checksums = [entry.crc_position]
    if crc == entry.crc and (crc or not flags & _CRC_FOLLOWS):
        checksums.append(entry.header + 14)
    elif not flags & _CRC_FOLLOWS:
        raise _damaged(source, f"the checksums of its record {show(name, 80)} disagree")
    if flags & _CRC_FOLLOWS:
        checksums.append(_descriptor(source, read, entry, offset + entry.nbytes, end, name))
    return ZipRecord(name, offset, entry.nbytes, entry.crc or None, tuple(checksums))


def _descriptor(
    source: FileSource, read: _Read, entry: _Entry, at: int, end: int, name: str
) -> int:
    """Position of the CRC-32 in the data descriptor at ``at``; its magic number is optional."""
    data = read(at, min(8, end - at))
    crc = struct.pack("<L", entry.crc)
    if data == _DESCRIPTOR_MAGIC + crc:
        return at + 4
    if data[:4] == crc:
        return at
    raise _damaged(source, f"the checksums of its record {show(name, 80)} disagree")


def _text(name: bytes, flags: int) -> str:
    return name.decode("utf-8" if flags & _UTF_8 else "cp437", "replace")


def _damaged(source: FileSource, what: str) -> CheckpointError:
    return CheckpointError(f"{source.path} is a damaged or truncated zip archive: {what}")
