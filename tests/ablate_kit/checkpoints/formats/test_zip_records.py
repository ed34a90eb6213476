"""The byte ranges of a zip archive's records, and zip archives that lie about them."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import CheckpointError
from ablate_kit.checkpoints.formats.zip_records import zip_records
from ablate_kit.checkpoints.source import FileSource

CENTRAL = b"PK\x01\x02"
END = b"PK\x05\x06"


def stored(records: dict[str, bytes]) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return bytearray(buffer.getvalue())


def refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file.zip"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        zip_records(FileSource(path))


@pytest.mark.parametrize("writer", ["torch", "zipfile", "stream"])
def test_records_and_checksums_are_where_zipfile_finds_them(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "file.zip"
    if writer == "torch":
        torch.save({"a": torch.arange(9.0), "empty": torch.empty(0)}, path)
    elif writer == "zipfile":
        path.write_bytes(stored({"a/data.pkl": b"one", "ä": b"two" * 50, "empty": b""}))
    else:
        # A stream cannot be rewound, so zipfile puts the checksums behind the data.
        class Stream(io.BytesIO):
            def seekable(self) -> bool:
                return False

            def tell(self) -> int:
                raise OSError

            def seek(self, *_: int) -> int:
                raise OSError

        stream = Stream()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a/data.pkl", b"one")
            archive.writestr("b", b"two" * 50)
        path.write_bytes(stream.getvalue())

    content = path.read_bytes()
    found = zip_records(FileSource(path))
    with zipfile.ZipFile(path) as archive:
        assert list(found) == archive.namelist()
        for entry in archive.infolist():
            record = found[entry.filename]
            data = content[record.offset : record.offset + record.nbytes]
            assert data == archive.read(entry)
            assert record.checksums
            for position in record.checksums:
                assert content[position : position + 4] == struct.pack("<L", entry.CRC)
            crc = struct.pack("<L", entry.CRC)
            # The empty record's CRC is zero, which is everywhere.
            assert entry.CRC == 0 or content.count(crc) == len(record.checksums)


def test_compressed_and_encrypted_records_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10_000_000))
    refused(tmp_path, buffer.getvalue(), "compressed records")

    content = stored({"a": b"data"})
    content[content.index(CENTRAL) + 8] |= 1
    refused(tmp_path, content, "encrypted records")


def test_overlapping_records_are_refused(tmp_path: Path) -> None:
    content = stored({"a": b"data", "b": b"more"})
    first = content.index(CENTRAL)
    second = content.index(CENTRAL, first + 4)
    for size in (5, 60, 2**31):
        changed = content.copy()
        changed[first + 20 : first + 28] = struct.pack("<2L", size, size)
        refused(tmp_path, changed, "record 'a' overlaps")
    changed = content.copy()
    changed[second + 42 : second + 46] = bytes(4)
    refused(tmp_path, changed, "record 'a' overlaps|record 'b' has another name|overlaps")


def test_headers_that_contradict_the_directory_are_refused(tmp_path: Path) -> None:
    content = stored({"aa": b"data"})
    for position, value, words in (
        (0, 0, "its record 'aa' contradicts"),
        (8, 8, "its record 'aa' contradicts"),
        (14, content[14] ^ 1, "checksums of its record 'aa' disagree"),
        (30, ord("b"), "another name in its own header"),
        (26, 1, "another name in its own header"),
    ):
        changed = content.copy()
        changed[position] = value
        refused(tmp_path, changed, words)


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    content = stored({"aa": b"data", "ab": b"more"})
    refused(tmp_path, content.replace(b"ab", b"aa"), "two records named 'aa'")


def test_directories_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    content = stored({"a": b"data"})
    end = content.index(END)
    for position, value, words in (
        (end + 4, 1, "one part of several"),
        (end + 8, 2, "one part of several"),
        (end + 12, 5, "does not end where"),
        (end + 16, 5, "does not end where"),
        (end + 20, 9, "bytes follow its end record"),
    ):
        changed = content.copy()
        changed[position] = value
        refused(tmp_path, changed, words)
    changed = content.copy()
    changed[end + 8 : end + 12] = struct.pack("<2H", 2, 2)
    refused(tmp_path, changed, "has 1 entries and claims 2")
    refused(tmp_path, b"PK\x03\x04" + content, "does not end where")
    refused(tmp_path, content + b"x", "end record is missing|bytes follow")
    refused(tmp_path, content[: end - 1], "end record is missing")


def test_the_two_end_records_of_zip64_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    torch.save({"a": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    end = content.index(b"PK\x06\x06")
    content[end + 24] ^= 1
    content[end + 32] ^= 1
    refused(tmp_path, content, "two end records disagree")


def test_large_archives_keep_their_sizes_in_the_extra_field(tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    with (
        zipfile.ZipFile(path, "w") as archive,
        archive.open(zipfile.ZipInfo("a"), "w", force_zip64=True) as record,
    ):
        record.write(b"data")
    content = bytearray(path.read_bytes())
    central = content.index(CENTRAL)
    # The same sizes and position, moved to a zip64 field as for records beyond 4 GB.
    content[central + 20 : central + 28] = b"\xff" * 8
    content[central + 42 : central + 46] = b"\xff" * 4
    extra = struct.pack("<2H3Q", 1, 24, 4, 4, 0)
    content[central + 30 : central + 32] = struct.pack("<H", len(extra))
    content[central + 47 : central + 47] = extra
    end = content.index(END)
    content[end + 12 : end + 16] = struct.pack("<L", end - central)
    path.write_bytes(content)
    record_found = zip_records(FileSource(path))["a"]
    assert content[record_found.offset : record_found.offset + record_found.nbytes] == b"data"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("a") == b"data"
    broken = content.copy()
    broken[central + 47] = 2
    refused(tmp_path, broken, "zip64 size is missing")
