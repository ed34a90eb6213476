"""A text in the metadata of a safetensors file, put in and taken out to the byte.

The text is written between two bytes of the file's first part (eight bytes of length, the JSON
header), and blanks are added behind the header so that all that follows moves by whole blocks: a
file system that clones can share them with the original. Taking the text out gives the first part
of before, so that a digest of the file without the text can be kept in the text.
"""

import json
import re
from typing import Any
from weakref import WeakKeyDictionary

from ablate_kit.checkpoints.formats.safetensors_file import parsed_header
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.errors import CheckpointError

KEY = "ablate_kit.receipt"
BLOCK = 4096  # bytes that file systems share as a whole

_METADATA = re.compile(rb'(?<!\\)"__metadata__"\s*:\s*\{')


def head_of(source: FileSource) -> bytes:
    """The first part of a safetensors file: all before the tensors."""
    return source.read(0, 8 + int.from_bytes(source.read(0, 8), "little"))


class Place:
    """Where in a first part a text goes.

    Raises ``CheckpointError`` for a header that has a text already, and for one that is valid but
    written so that the place cannot be told.
    """

    def __init__(self, head: bytes) -> None:
        self._header = header = head[8:]
        found = _METADATA.search(header)
        self._at = found.end() if found else header.find(b"{") + 1
        # transformers 4 refuses a file whose metadata does not name its format
        self._frame = (b"", b"") if found else (b'"__metadata__":{"format":"pt",', b"}")
        if not header[self._at :].lstrip().startswith(b"}"):
            self._frame = (self._frame[0], self._frame[1] + b",")
        # Any other text would do as this one does: it is a JSON string at the same place.
        before, after = _parsed(header), _parsed(self._with("text"))
        metadata = after.pop("__metadata__", None) or {}
        expected = before.pop("__metadata__", None) or {} if found else {"format": "pt"}
        if (metadata, after) != (expected | {KEY: "text"}, before) or KEY in expected:
            raise CheckpointError("the header has no place for a receipt")

    def embedded(self, text: str) -> bytes:
        """The first part with ``text``; of one length for all texts of one length."""
        return _with_length(self._with(text))

    def _with(self, text: str) -> bytes:
        opening, closing = self._frame
        inserted = opening + _entry(text) + closing
        rest = self._header[self._at :] + b" " * (-len(inserted) % BLOCK)
        return self._header[: self._at] + inserted + rest


def embedded(head: bytes, text: str) -> bytes:
    """The first part with ``text``; raises ``CheckpointError`` as ``Place``."""
    return Place(head).embedded(text)


def place_in(source: FileSource) -> Place | None:
    """The place in an open file, without the text that it may have; found once."""
    if source not in _PLACES:
        try:
            _PLACES[source] = Place(stripped(head_of(source)))
        except CheckpointError:  # a valid header, but a strange one
            _PLACES[source] = None
    return _PLACES[source]


_PLACES: WeakKeyDictionary[FileSource, Place | None] = WeakKeyDictionary()


def stripped(head: bytes) -> bytes:
    """The first part without its text, as it was before ``embedded``; itself if it has none."""
    header = head[8:]
    if json.dumps(KEY).encode() not in header:
        return head
    metadata = _parsed(header).get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return head
    entry = _entry(text)
    alone = b'"__metadata__":{"format":"pt",' + entry + b"}"
    for inserted in (alone + b",", alone, entry + b",", entry):
        at = header.find(inserted)
        if at < 0:
            continue
        body = header[:at] + header[at + len(inserted) :]
        before = _with_length(body[: len(body) - -len(inserted) % BLOCK])
        try:
            if embedded(before, text) == head:
                return before
        except CheckpointError:
            continue
    return head  # another program has rewritten the file


def _entry(text: str) -> bytes:
    return f"{json.dumps(KEY)}:{json.dumps(text)}".encode()


def _with_length(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def _parsed(header: bytes) -> dict[str, Any]:
    try:
        parsed = parsed_header(header)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise CheckpointError("the header has no place for a receipt")
    return parsed
