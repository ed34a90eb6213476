"""Commands that write several files, on a disk that runs full before the last: all or none."""

import errno
import os
from pathlib import Path

import pytest
import torch

from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    attention = torch.nn.MultiheadAttention(8, 2)
    torch.save({f"attn.{key}": value for key, value in attention.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("moment", range(3))
@pytest.mark.parametrize(
    "command",
    [("heads", "attn", "--each", "--num-heads", 2), ("units", "**", "--percent", "10,20,30")],
)
def test_of_several_copies_all_are_written_or_none(
    command: tuple[object, ...],
    moment: int,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    refuse: Run,
) -> None:
    output = tmp_path / "new" / "variants"
    command = (command[0], weights, *command[1:], "-o", output)
    replace, calls = os.replace, []

    def full(*paths: object, **named: object) -> None:
        calls.append(paths)
        if len(calls) == moment + 1:  # of the copies and their receipts
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*paths, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        told = refuse(*command)
    assert told.endswith("No space left on device\n")
    assert list(tmp_path.iterdir()) == [weights]
    run(*command)
    assert len(list(output.iterdir())) in (4, 6)  # each with its receipt


@pytest.mark.parametrize(
    "command", [("shrink", "--depth", 1), ("convert",), ("component", "neck"), ("swap", "csi=off")]
)
def test_a_folder_that_can_only_be_read_is_told_before_the_work(
    command: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Run
) -> None:
    name, *words = command
    # Of whoever runs the tests.
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
    output = tmp_path / "copy.safetensors"
    told = refuse(name, SHAPES_TINY, *words, "-o", output)
    assert told == f"ablate: cannot write {output}: nothing can be written in {tmp_path}\n"


def test_a_smaller_checkpoint_that_does_not_fit_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuse: Run
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "replace", full)
    output = tmp_path / "smaller.safetensors"
    told = refuse("shrink", SHAPES_TINY, "--depth", 1, "-o", output)
    assert told == f"ablate: cannot write {output}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []
