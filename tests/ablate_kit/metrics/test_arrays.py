"""Arrays in npz files: what numpy writes is read, what is odd is one line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.arrays import read_arrays
from detector.disk import bounded


def member(array: object) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(array), allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, save: object) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.zeros(0), "c": np.float32(2)}
    save(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert {name: (one.dtype, one.tolist()) for name, one in found.items()} == {
        name: (one.dtype, one.tolist()) for name, one in arrays.items()
    }


def written(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", content)
    return path


def damaged(path: Path, at: int, value: int) -> Path:
    """One byte of the first and of the central header set."""
    data = bytearray(path.read_bytes())
    data[at] = value
    data[data.rfind(b"PK\x01\x02") + at + 2] = value
    path.write_bytes(data)
    return path


def test_what_is_odd_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    small = member(np.ones(3))
    files = [
        ("in another way", lambda: written(path, small, zipfile.ZIP_LZMA)),
        ("in another way", lambda: damaged(written(path, small), 8, 97)),
        ("encrypted", lambda: damaged(written(path, small), 6, 1)),
        ("larger than it is", lambda: written(path, small.replace(b"(3,), }  ", b"(999,), }"))),
        ("", lambda: written(path, small.replace(b"(3,)", b"(-3)"))),
        ("holds objects", lambda: written(path, member([object()]))),
        ("not a zip file", lambda: path.write_bytes(b"x")),
        ("magic string", lambda: written(path, b"x" * 100)),
    ]
    for words, write in files:
        write()
        with pytest.raises(UserError, match="not a readable npz file") as error:
            read_arrays(path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is a device"):
        read_arrays(Path("/dev/zero"))


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate_kit.metrics.arrays.DOCUMENT", 10_000)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(10_000))
    with pytest.raises(UserError, match="holds more than"):
        read_arrays(tmp_path / "a.npz")
    monkeypatch.setenv(bounded.VARIABLE, "1MB")
    assert len(read_arrays(tmp_path / "a.npz")["a"]) == 10_000
