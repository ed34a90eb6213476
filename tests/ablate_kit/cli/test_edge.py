"""What the system refuses is one line and exit code 2, and nothing is half-written."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ablate_kit.cli import edge
from ablate_kit.cli.output import say
from ablate_kit.errors import UserError
from detector import stopping
from tests.ablate_kit.conftest import Ablate, Run

ABLATE = (sys.executable, "-m", "ablate_kit")


def shell(
    words: str, *arguments: object, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs ``ablate "$@"`` in the redirections of ``words``."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {words}', "-", *ABLATE, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | (environment or {}),
    )  # fmt: skip


def test_streams_that_are_full_or_closed(hybrid: Path) -> None:
    full = shell("> /dev/full", "keys", hybrid)
    assert full.returncode == 2
    assert full.stderr == "ablate: cannot write to standard output: No space left on device\n"
    closed = shell(">&-", "keys", hybrid)
    assert closed.returncode == 2
    assert closed.stderr == (
        "ablate: standard output is closed; send it to a file, or to /dev/null\n"
    )
    for words in ("2> /dev/full", "2>&-", "<&-"):
        told = shell(words, "keys", hybrid)
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith("tensor ")
        refused = shell(words, "keys", hybrid.with_name("absent"))
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == (words == "<&-")


@pytest.mark.parametrize("arguments", [("keys",), ("keys", "--format", "json"), ("--help",)])
def test_who_reads_but_the_first_line_hears_no_more(hybrid: Path, arguments: Sequence[str]) -> None:
    """The reader has gone before a line is written, so that it does not matter who is faster."""
    given = [*arguments, hybrid] if arguments[0] == "keys" else arguments
    late = (
        "import os, sys; from ablate_kit.cli.app import main\n"
        "there, here = os.pipe(); os.close(there); os.dup2(here, 1); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", late, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "")


def test_names_that_the_terminal_cannot_show_are_spelled_out(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"größe": np.ones(1, np.float32)}, tmp_path / "a.safetensors")
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    done = shell("", "keys", tmp_path / "a.safetensors", environment=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe" in done.stdout
    done = shell("", "keys", tmp_path / "größe", environment=ascii_only)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert shell("", "--help", environment=ascii_only).returncode == 0


WRITES = {  # commands that write, without what they write to
    "units": ("units", "{hybrid}", "encoder", "--percent", "50"),
    "component": ("component", "{hybrid}", "level_embed"),
    "eval": ("eval", "{hybrid}", "--shapes", "--limit", "1", "--resamples", "0"),
    "convert": ("convert", "{hybrid}"),
}


@pytest.mark.parametrize("command", WRITES)
def test_outputs_that_cannot_be(command: str, ablate: Ablate, hybrid: Path, tmp_path: Path) -> None:
    given = [word.format(hybrid=hybrid) for word in WRITES[command]]
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    suffix = "" if command in ("eval", "units") else ".safetensors"
    for place in (
        tmp_path / "file" / f"x{suffix}",
        tmp_path / "file" / "deeper" / f"x{suffix}",
        tmp_path / ("a" * 300 + suffix),
        Path("/proc/1/nowhere") / f"x{suffix}",
    ):
        told = ablate(*given, "-o", place).refusal()
        assert told.startswith("ablate: cannot "), told
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("open", errno.EACCES),
        ("mkdir", errno.EROFS),
        ("replace", errno.EROFS),
        ("pwrite", errno.ENOSPC),
        ("pwrite", errno.EDQUOT),
    ],
)
def test_a_refusal_of_the_system_at_any_call_leaves_nothing(
    call: str,
    code: int,
    ablate: Ablate,
    run: Run,
    hybrid: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first, the second ... call that would change the folder fails, until none is left."""
    real = getattr(os, call)
    for place in range(1, 50):
        calls: list[object] = []
        out = tmp_path / str(place)

        def fails(
            path: object,
            *rest: object,
            calls: list[object] = calls,
            place: int = place,
            **more: object,
        ) -> object:
            writing = call != "open" or (bool(rest) and int(str(rest[0])) & os.O_CREAT)
            of_ours = isinstance(path, int) or str(path).startswith(str(tmp_path))
            is_there = call == "mkdir" and Path(str(path)).exists()
            if writing and of_ours and not is_there:
                calls.append(path)
                if len(calls) == place:
                    raise OSError(code, os.strerror(code))
            return real(path, *rest, **more)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, fails)
            try:
                told = ablate(
                    "units", hybrid, "level_embed", "--percent", "10,20", "-o", out
                ).refusal()
            except AssertionError:
                if len(calls) >= place:
                    raise
                break  # fewer calls than that: it was written
        assert os.strerror(code) in told
        # A copy is there as a whole or not at all.
        assert {path.suffix for path in out.glob("*")} <= {".safetensors"}
        for path in out.glob("*"):
            run("verify", path)
    assert len(list(out.iterdir())) == 2


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a mistake"), "a mistake"),
        (PermissionError(13, "Permission denied", "/x/y"), "cannot use /x/y: Permission denied"),
        (OSError(18, "Invalid cross-device link", "/x", None, "/y"),
         "cannot use /x and /y: Invalid cross-device link"),
        (FileExistsError(errno.EEXIST, "File exists", __file__),
         f"cannot use {__file__}: it is a file, and a folder is needed"),
        (OSError("the format\nis odd"), "the format"),
        (TimeoutError(), "TimeoutError"),
        (MemoryError(), "not enough memory: ask for less at a time"),
        (OutOfMemoryError("tried 2 GiB\nmore"), "not enough memory: tried 2 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
         "not enough memory: DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge.run(raising(error)) == 2
    assert capsys.readouterr().err == f"ablate: {line}\n"


def test_our_own_failures_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        edge.run(lambda: 1 // 0)
    with pytest.raises(RuntimeError, match="a bug"):
        edge.run(raising(RuntimeError("a bug")))


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_signals_end_a_command_in_one_line(
    number: signal.Signals, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def command() -> int:
        say("begun")
        try:
            os.kill(os.getpid(), number)
        finally:
            raise ValueError("what was broken off fails in turn")

    assert edge.run(command) == 128 + number
    assert capsys.readouterr().err == f"ablate: stopped by {name}\n"
    assert signal.getsignal(number) == before


def test_a_signal_while_the_end_is_told_adds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stopping, "SAME", 0.0)
    kept = stopping.kept
    monkeypatch.setattr(stopping, "kept", lambda: os.kill(os.getpid(), signal.SIGINT) or kept())
    assert edge.run(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "ablate: stopped by SIGTERM\n"


@pytest.mark.parametrize(
    ("moment", "code", "line"),
    [
        ("sys.meta_path.insert(0, At())", 130, "ablate: stopped by Ctrl-C\n"),
        ("atexit.register(interrupt)", 0, ""),
    ],
)
def test_ctrl_c_before_and_after_a_command_shows_no_traceback(
    moment: str, code: int, line: str
) -> None:
    program = (
        "import atexit, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def interrupt(): os.kill(os.getpid(), signal.SIGINT)\n"
        "class At:\n"
        "    def find_spec(self, name, *_): name == 'typer' and interrupt()\n"
        f"{moment}\n"
        "sys.argv = ['ablate', '--version']\n"
        "from ablate_kit.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, line)
