"""Reading is bounded, whatever a file turns out to hold."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from detector.disk import bounded
from detector.disk.bounded import allowed, open_bounded, read_bounded, size_of
from detector.errors import UserError

MOST = 1000


@pytest.mark.parametrize("packed", [False, True])
def test_what_fits_is_read_and_one_byte_more_is_refused(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a"
    for size in (0, 1, MOST, MOST + 1, 10 * MOST):
        data = os.urandom(size)
        path.write_bytes(gzip.compress(data) if packed and size <= MOST else data)
        if packed and size > MOST:
            path.write_bytes(gzip.compress(bytes(size)))
        if size <= MOST:
            assert read_bounded(path, MOST if not packed else MOST + 50, unpack=True) == data
        else:
            with pytest.raises(UserError, match=r"holds more than 0\.001 MB"):
                read_bounded(path, MOST, unpack=True)


def test_a_user_can_allow_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(2 * MOST))
    monkeypatch.setenv(bounded.VARIABLE, "2kB")
    assert read_bounded(path, MOST) == bytes(2 * MOST)
    assert allowed(10**6) == 10**6
    monkeypatch.setenv(bounded.VARIABLE, "much")
    with pytest.raises(UserError, match='ABLATE_READ_LIMIT is "much"; expected a size'):
        read_bounded(path, MOST)


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4e9), ("500 MB", 5e8), ("1.5k", 1500), ("7", 7), ("2TiB", 2e12)]
)
def test_sizes(text: str, size: float) -> None:
    assert size_of(text, "it") == size


def test_a_pipe_is_read_where_a_user_names_it_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe"):
        read_bounded(path, MOST)
    for size in (10, MOST + 1):
        writer = threading.Thread(target=path.write_bytes, args=(b"a" * size,))
        writer.start()
        if size <= MOST:
            assert read_bounded(path, MOST, pipes=True) == b"a" * size
        else:
            with pytest.raises(UserError, match="holds more"):
                read_bounded(path, MOST, pipes=True)
        writer.join()


def test_devices_are_refused_and_folders_are_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/dev/zero is a device; expected a file"):
        read_bounded(Path("/dev/zero"), MOST, pipes=True)
    with pytest.raises(IsADirectoryError):
        read_bounded(tmp_path, MOST)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "absent", MOST)


def test_a_text_is_read_in_pieces_up_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(10 * MOST)))
    with pytest.raises(UserError, match="holds more"), open_bounded(path, MOST, unpack=True) as it:
        it.peek(1)
    with open_bounded(path, 10 * MOST, unpack=True) as it:
        assert it.read(100) == bytes(100)
        assert len(it.read()) == 10 * MOST - 100
