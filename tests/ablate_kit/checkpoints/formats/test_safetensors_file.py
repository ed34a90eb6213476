"""What a safetensors header may say, after the format's description."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from ablate_kit.checkpoints import CheckpointError, open_archive


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> Any:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_names_shapes_and_byte_ranges_stand_in_the_header(tmp_path: Path) -> None:
    header = {"__metadata__": {"a": "b"}, "x": entry(0, 24, [2, 3]), "y": entry(24, 26, [], "BF16")}
    path = write(tmp_path / "f", header, bytes(26))
    start = path.stat().st_size - 26
    with open_archive(path) as archive:
        assert list(archive.tensors) == ["x", "y"]
        assert archive.metadata == {"a": "b"}
        x, y = archive.tensors.values()
        assert (x.dtype, x.shape, x.stride, x.offset) == ("float32", (2, 3), (3, 1), start)
        assert (y.dtype, y.shape, y.stride, y.offset) == ("bfloat16", (), (), start + 24)
        assert x.storage != y.storage


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"x": entry(0, 8)}, 4, "reaches beyond the end of the file"),
        ({"x": entry(0, 8)}, 12, "end at byte .* but the file has"),
        ({"x": entry(0, 8), "y": entry(4, 12)}, 12, "'y' overlaps another"),
        ({"x": entry(0, 8), "y": entry(0, 8)}, 8, "overlaps another"),
        ({"x": entry(4, 8)}, 8, "'x' leaves a gap before it"),
        ({"x": entry(0, 8, [3])}, 8, "cannot be 8 bytes"),
        ({"x": entry(8, 0, [2])}, 8, "cannot be -8 bytes"),
        ({"x": entry(0, 8, [2**62, 2**62, 0])}, 8, "cannot be 8 bytes"),
        ({"x": entry(0, 0, [2**62, 2**62, 0])}, 0, "cannot be 0 bytes"),
        ({"x": entry(-8, 0, [2])}, 8, "the entry of tensor 'x'"),
        ({"x": entry(0, 8, [-2])}, 8, "the entry of tensor 'x'"),
        ({"x": entry(0, 8, [2.0])}, 8, "the entry of tensor 'x'"),
        ({"x": entry(0, 4, [True])}, 4, "the entry of tensor 'x'"),
        ({"x": {"dtype": "F32"}}, 0, "the entry of tensor 'x'"),
        ({"x": None}, 0, "the entry of tensor 'x'"),
        ({"x": entry(0, 8, [4], "F16X")}, 8, "dtype 'F16X'; known are BOOL"),
        ({"x": entry(0, 8, [16], "F4")}, 8, "dtype 'F4'"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__ is not a table of texts"),
        ({"__metadata__": []}, 0, "__metadata__ is not a table of texts"),
        (b'{"x": 1, "x": 2}', 0, "key 'x' occurs twice"),
        (b'{"x": {"dtype": "F32", "dtype": "F32"}}', 0, "key 'dtype' occurs twice"),
        (b'{"x": ', 0, "not valid JSON"),
        (b'{"\xff": 1}', 0, "not valid JSON"),
        (b"{" + b'"a":{' * 50_000, 0, "not valid JSON"),
        (b'{"a":' + b"[" * 50_000, 0, "not valid JSON"),
        (b'{"a":' + b"9" * 5_000 + b"}", 0, "not valid JSON"),
        (b'{"__metadata__":{},"a":NaN}', 0, "NaN is no number of JSON"),
        (b'{"a":-Infinity}', 0, "-Infinity is no number of JSON"),
        (b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}', 0, "not valid JSON"),
        (b'{"__metadata__":{"a":"\\udc00"}}', 0, "not valid JSON"),
    ],
)
def test_headers_that_do_not_fit_are_refused(
    tmp_path: Path, header: Any, data: int, words: str
) -> None:
    path = write(tmp_path / "f", header, bytes(data))
    with pytest.raises(CheckpointError, match=words) as caught:
        open_archive(path)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_header_lengths_beyond_the_file_or_reason_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="header claims 1000 bytes, but the file has 10"):
        open_archive(write(tmp_path / "f", b"{}", length=1000))
    for length in (100_000_001, 2**40, 2**63, 2**64 - 1):
        with pytest.raises(CheckpointError, match=f"header claims {length} bytes, over 100 MB"):
            open_archive(write(tmp_path / "f", b"{}", length=length))


SIZES = {"F32": 4, "BF16": 2, "U8": 1, "F8_E4M3": 1, "C64": 8}


@st.composite
def nearly_valid(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A header, at most one of whose numbers is off, and the length of the data."""
    header = {}
    end = 0
    for name in draw(st.lists(st.text(max_size=3), unique=True, max_size=4)):
        dtype = draw(st.sampled_from(sorted(SIZES)))
        shape = draw(st.lists(st.integers(0, 3), max_size=2))
        begin, end = end, end + math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    header = dict(draw(st.permutations(list(header.items()))))
    if header and draw(st.booleans()):
        changed = header[draw(st.sampled_from(sorted(header)))]
        numbers = changed[draw(st.sampled_from(["shape", "data_offsets"]))]
        if numbers:
            numbers[draw(st.integers(0, len(numbers) - 1))] += draw(st.integers(-2, 2))
    return header, end + draw(st.sampled_from([0, 0, 0, 1, -1]) if end else st.just(0))


@settings(deadline=None, max_examples=200)
@given(file=nearly_valid())
def test_what_the_reference_refuses_is_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[dict[str, Any], int]
) -> None:
    path = write(tmp_path_factory.mktemp("s") / "f", file[0], bytes(file[1]))
    try:
        with safe_open(path, "pt") as reference:
            expected = set(reference.keys())
    except SafetensorError:
        with pytest.raises(CheckpointError):
            open_archive(path)
    else:
        with open_archive(path) as archive:
            assert set(archive.tensors) == expected
