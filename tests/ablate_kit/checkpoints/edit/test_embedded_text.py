"""A receipt in the metadata of a safetensors file, put in and taken out to the byte."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from ablate_kit.checkpoints import CheckpointError, open_archive
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.embedded_text import BLOCK, KEY, embedded, head_of, stripped
from ablate_kit.checkpoints.edit.patched_copy import write_patched

names = st.text(max_size=8).filter(lambda name: name != "__metadata__")
tables = st.none() | st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)


def head(tensors: dict[str, int], metadata: dict[str, str] | None) -> bytes:
    content = save({name: np.zeros(size, np.uint8) for name, size in tensors.items()}, metadata)
    return content[: 8 + int.from_bytes(content[:8], "little")]


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(names, st.integers(1, 9), min_size=1, max_size=3), tables, st.text())
def test_what_is_put_in_is_taken_out(
    tensors: dict[str, int], metadata: dict[str, str] | None, text: str
) -> None:
    before = head(tensors, metadata)
    after = embedded(before, text)
    header = json.loads(after[8:])
    kept = {"format": "pt"} if metadata is None else metadata
    assert header.pop("__metadata__") == kept | {KEY: text}
    assert header == {k: v for k, v in json.loads(before[8:]).items() if k != "__metadata__"}
    assert stripped(after) == before
    assert stripped(before) == before
    assert (len(after) - len(before)) % BLOCK == 0


@pytest.mark.parametrize("header", [
    '{}',
    '{"__metadata__":{}}',
    '{ "__metadata__" : { "a":"b" } , "x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ',
    '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"a":"\\"__metadata__"}}',
    '{"__metadata__":{"a":"\\"__metadata__\\":{"}}',
])  # fmt: skip
def test_headers_as_other_programs_write_them(header: str) -> None:
    before = len(header).to_bytes(8, "little") + header.encode()
    assert stripped(embedded(before, "text")) == before


@pytest.mark.parametrize("header", [
    '{"\\u005f_metadata__":{"a":"b"}}',
    '{"x":{"__metadata__":{}},"__metadata__":{"a":"b"}}',
    '{"__metadata__":{"ablate_kit.receipt":"another"}}',
    '[]',
])  # fmt: skip
def test_a_header_in_which_the_place_cannot_be_told_is_refused(header: str) -> None:
    before = len(header).to_bytes(8, "little") + header.encode()
    with pytest.raises(CheckpointError, match="no place for a receipt"):
        embedded(before, "text")


def test_a_file_that_another_program_has_rewritten_keeps_its_head(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones(3)}, path, {KEY: "text", "z": "1"})
    with open_archive(path) as archive:
        before = head_of(archive.sources[path])
    # Not as we write it, unless padding happens to agree; then taking it out is right, too.
    after = stripped(before)
    assert after == before or embedded(after, "text") == before


def test_a_copy_with_a_receipt_is_the_plain_copy_and_its_receipt(tmp_path: Path) -> None:
    source, plain, noted = (tmp_path / f"{name}.safetensors" for name in ("a", "plain", "noted"))
    generator = np.random.default_rng(0)
    tensors = {f"w{i}": generator.random((100, 50 + i), np.float32) for i in range(4)}
    save_file(tensors, source, {"config": "{}"})
    told: list[str | None] = []

    def note(digest: str | None) -> str:
        told.append(digest)
        return digest or "0" * 64

    change = ElementPatch("w2", bytes(4), (slice(3, 5), slice(7, 9)))
    with open_archive(source) as archive:
        write_patched(archive, [change], plain)
        write_patched(archive, [change], noted, note=note)
    with safe_open(noted, "np") as opened:
        assert opened.metadata() == {"config": "{}", KEY: told[-1]}
    with open_archive(noted) as archive:
        start = len(before := head_of(archive.sources[noted]))
    assert stripped(before) + noted.read_bytes()[start:] == plain.read_bytes()
    changed = load_file(noted)
    tensors["w2"][3:5, 7:9] = 0
    assert all(np.array_equal(tensors[name], changed[name]) for name in tensors)
