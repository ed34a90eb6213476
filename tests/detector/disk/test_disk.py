"""What is on disk stays whole, whatever stops the process that writes it, and is one process's."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from detector.disk import atomic
from detector.disk.atomic import (
    CannotWriteError,
    new_file,
    new_files,
    new_folder,
    new_stream,
    new_text,
    new_together,
    parents_made,
    remove_temporaries,
    remove_torn,
)
from detector.disk.lines import append_line, whole_lines
from detector.disk.lock import NAME, locked
from detector.errors import UserError


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def put_text(path: Path) -> None:
    new_text(path, "new", overwrite=True)


def put_stream(path: Path) -> None:
    with new_stream(path, overwrite=True) as file:
        file.write(b"n")
        file.write(b"ew")


def put_folder(path: Path) -> None:
    with new_folder(path, overwrite=True) as place:
        (place / "file").write_text("new")


WAYS: list[tuple[Callable[[Path], None], str]] = [
    *((put, call) for put in (put_text, put_stream) for call in ("open", "fsync", "replace")),
    *((put_folder, call) for call in ("mkdir", "rename")),
]


@pytest.mark.parametrize(("put", "call"), WAYS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_failure_leaves_the_old_and_nothing_else(
    put: Callable[[Path], None],
    call: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a"
    if put is put_folder:
        path.mkdir()
    else:
        path.write_text("old")
    real, calls = getattr(os, call), []

    def fails_once(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, fails_once)
    with pytest.raises(UserError) as caught:
        put(path)
    assert str(caught.value) == f"cannot write {path}: {os.strerror(code)}"
    assert calls
    assert list(tmp_path.iterdir()) == [path]
    assert list(path.iterdir()) == [] if path.is_dir() else path.read_text() == "old"


@pytest.mark.parametrize("put", [put_text, put_stream, put_folder])
def test_folders_are_made_and_go_again_where_nothing_was_written(
    put: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    path = there / "new" / "newer" / "a"
    call = "rename" if put is put_folder else "replace"
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(UserError, match="No space left"):
            put(path)
    assert list(tmp_path.rglob("*")) == [there]
    put(path)
    assert path.exists()


def test_folders_in_which_something_else_was_written_stay(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), parents_made(tmp_path / "a/b/c"):
        full((tmp_path / "a/other").write_text(""))
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a/other"]


def test_of_files_that_belong_together_all_are_new_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_files(tmp_path, {"a": b"1", "b": b"2"})
    real, written = os.fdopen, []

    class Full(io.BytesIO):
        def flush(self) -> None:
            full()

    def opened(fd: int, mode: str) -> IO[bytes]:
        written.append(fd)
        if len(written) < 3:
            return real(fd, mode)
        os.close(fd)
        return Full()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", opened)
        with pytest.raises(UserError, match=r"cannot write .*/d: No space left"):
            new_files(tmp_path, {"a": b"3", "b": b"4", "d": b"5"})
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_a_signal_while_the_old_folder_goes_leaves_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_folder(tmp_path / "a")
    real, stops = os.unlink, [KeyboardInterrupt]

    def stopped(*args: object, **named: object) -> None:
        if stops:
            raise stops.pop()
        real(*args, **named)

    monkeypatch.setattr(os, "unlink", stopped)
    with pytest.raises(KeyboardInterrupt):
        put_folder(tmp_path / "a")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def put_together(folder: Path) -> None:
    with new_together([folder / "a", folder / "b", folder / "in" / "c"]) as places:
        new_text(places[folder / "a"], "a")
        places[folder / "b"].mkdir()
        new_text(places[folder / "in" / "c"], "c")
        assert not any(one.exists() for one in places)


def test_what_is_new_together_appears_at_the_end(tmp_path: Path) -> None:
    put_together(tmp_path / "new")
    found = {str(one.relative_to(tmp_path / "new")) for one in (tmp_path / "new").rglob("*")}
    assert found == {"a", "b", "in", "in/c"}


@pytest.mark.parametrize(
    ("call", "last"),
    [("mkdir", 2), ("replace", 1), ("replace", 2), ("rename", 1), ("rename", 2), ("rename", 3)],
)
def test_of_what_is_new_together_all_is_there_or_nothing(
    call: str, last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = getattr(os, call), 0

    def counted(*args: object, **named: object) -> object:
        nonlocal count
        count += 1
        return full() if count == last else real(*args, **named)

    monkeypatch.setattr(os, call, counted)
    with pytest.raises(CannotWriteError) as failed:
        put_together(tmp_path / "new")
    assert ".tmp" not in str(failed.value)
    assert not list(tmp_path.iterdir())
    put_together(tmp_path / "new")
    assert (tmp_path / "new" / "in" / "c").read_text() == "c"


def test_a_place_that_another_took_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    def put() -> None:
        with new_together([tmp_path / "a", tmp_path / "b"]) as places:
            for place in places.values():
                place.write_text("new")
            (tmp_path / "b").write_text("mine")

    with pytest.raises(UserError, match=r"b exists"):
        put()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("b", "mine")]


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "ä" * 127):
        new_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
    with pytest.raises(UserError, match=r"cannot write .*: File name too long"):
        new_text(tmp_path / ("a" * 256), "x")
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        new_text(tmp_path / ("a" * 255) / "b", "x")


def test_what_a_file_that_is_read_lacks_is_not_said_of_the_one_that_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileNotFoundError, match="gone"), new_file(tmp_path / "out" / "new"):
        (tmp_path / "gone").read_text()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_copy_that_does_not_fit_is_said_of_where_it_was_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "out").mkdir()

    def copied(one: object, other: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(one), None, str(other))

    monkeypatch.setattr(shutil, "copyfile", copied)
    destination = tmp_path / "out" / "new"
    with pytest.raises(UserError) as caught, new_folder(destination) as place:
        shutil.copyfile(tmp_path / "a.jpg", place / "a.jpg")
    assert str(caught.value) == f"cannot write {destination}: No space left on device"


def test_what_a_killed_process_left_goes_with_the_next_of_the_same_destination(
    tmp_path: Path,
) -> None:
    for kind in ("file", "folder"):
        place = tmp_path / kind
        place.mkdir()
        (place / ".other.0123456789ab.tmp").write_text("of another destination")
        program = f"""
import os, signal
from pathlib import Path
from detector.disk.atomic import new_folder, new_text
destination = Path({str(place / "a")!r})
if {kind == "folder"}:
    with new_folder(destination) as folder:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
new_text(destination, "half")
"""
        done = subprocess.run([sys.executable, "-c", program])
        assert done.returncode == -signal.SIGKILL
        assert len(list(place.iterdir())) == 2
        if kind == "file":
            new_text(place / "a", "whole")
        else:
            with new_folder(place / "a"):
                pass
        assert {one.name for one in place.iterdir()} == {"a", ".other.0123456789ab.tmp"}


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    """Two that write the same file, or folder, are not in each other's way."""
    with new_stream(tmp_path / "a", overwrite=True) as slow, new_folder(tmp_path / "b") as folder:
        slow.write(b"slow")
        new_text(tmp_path / "a", "fast")
        with suppress(KeyError), new_folder(tmp_path / "b") as other:
            assert other != folder
            raise KeyError
        for path in tmp_path.iterdir():
            if path.name.startswith("."):
                remove_torn(path)
        (folder / "whole").touch()
    assert (tmp_path / "a").read_bytes() == b"slow"
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")) == [
        "a", "b", "b/whole",
    ]  # fmt: skip


def test_only_our_own_temporaries_are_removed(tmp_path: Path) -> None:
    child = (
        "import os, sys; from pathlib import Path; from detector.disk.atomic import *\n"
        "with new_folder(Path(sys.argv[1], 'report')) as place, new_file(Path(sys.argv[1], 'a')):\n"
        "    (place / 'half').write_text('x'); os._exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", child, tmp_path], check=False)
    assert done.returncode == 7
    assert len(list(tmp_path.iterdir())) == 2
    others = {".report.tmp", ".a.0123456789ag.tmp", "a.0123456789ab.tmp"}
    for name in others:
        (tmp_path / name).write_text("mine")
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_a_line_that_was_cut_off_is_passed_over_and_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    assert whole_lines(path) == []
    append_line(path, "one")
    append_line(path, "two " * 50_000)
    whole = path.read_bytes()
    for torn in (b"x", b"x" * 200_000):
        path.write_bytes(whole + torn)
        assert whole_lines(path) == whole.split(b"\n")[:-1]
        assert path.read_bytes() == whole + torn  # reading writes nothing
    append_line(path, "three")
    assert path.read_bytes() == whole + b"three\n"
    path.write_bytes(b"nothing but a torn line")
    append_line(path, "one")
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_a_line_that_cannot_be_added_is_said_of_its_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    append_line(path, "one")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(CannotWriteError) as caught:
            append_line(path, "two")
    assert str(caught.value) == f"cannot write {path}: No space left on device"
    append_line(path, "three", sync=False)
    assert whole_lines(path)[-1] == b"three"


def test_a_second_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    run = tmp_path / "a" / "run"
    with locked(run):
        with pytest.raises(UserError, match=rf"run is in use by process {os.getpid()} on "):
            locked(run).__enter__()
        with locked(tmp_path / "a"):
            pass
    assert not run.exists()  # nothing was written to it
    with locked(run):
        (run / "file").touch()
    assert [path.name for path in run.iterdir()] == ["file"]


def test_a_crash_releases_the_lock_though_a_child_lives_on(tmp_path: Path) -> None:
    child = (
        "import os, sys; from pathlib import Path; from detector.disk.lock import locked\n"
        "there, here = os.pipe()\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n"
        "        os.write(here, b'x'); sys.stdin.read(); os._exit(0)\n"  # until the test is done
        "    os.read(there, 1); os._exit(7)"
    )
    with subprocess.Popen([sys.executable, "-c", child, tmp_path], stdin=subprocess.PIPE) as first:
        assert first.wait() == 7
        assert (tmp_path / NAME).exists()
        with locked(tmp_path):
            pass
        assert not (tmp_path / NAME).exists()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="cannot use the folder"):
        locked(tmp_path / "run").__enter__()
    assert (tmp_path / "mine").read_text() == "mine"


def test_on_a_full_disk_no_lock_and_no_new_folder_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", full)
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "old", tmp_path / "new" / "run"):
        with pytest.raises(UserError, match=r"cannot use the folder .*No space left"):
            locked(folder).__enter__()
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


def test_where_there_are_no_locks_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr("fcntl.flock", without)
    with locked(tmp_path):
        assert (tmp_path / NAME).exists()


def test_many_writers_of_one_file_take_nothing_from_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write(number: int) -> None:
        for _ in range(100):
            with new_stream(path, overwrite=True) as file:
                file.write(bytes([number]) * 5_000)
            assert len(set(path.read_bytes())) == 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_lock_leaves_none_of_the_folders_that_it_made(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "one"):
        assert (tmp_path / "runs" / "one" / NAME).exists()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "runs" / "two"):
        (tmp_path / "runs" / "two" / "written").touch()
    assert (tmp_path / "runs" / "two" / "written").exists()


def test_a_file_that_others_take_for_torn_as_it_is_made_gets_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, tried = atomic._held, []

    def removed_at_first(fd: int, path: Path) -> bool:
        tried.append(path)
        if len(tried) < 4:
            path.unlink()  # another process, before the lock is there
        return held(fd, path)

    monkeypatch.setattr(atomic, "_held", removed_at_first)
    with new_stream(tmp_path / "file") as file:
        file.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert len(set(tried)) == 4
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
