"""Commands that read tensors refuse a torch file of which a byte is another."""

import errno
import os
from pathlib import Path

import pytest
import torch

from tests.ablate_kit.conftest import Run


def test_every_command_that_reads_tensors_refuses(tmp_path: Path, run: Run, refuse: Run) -> None:
    whole, damaged = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    weight = torch.arange(70.0)
    torch.save({"a": weight}, whole)
    data = bytearray(whole.read_bytes())
    data[data.index(weight.numpy().tobytes()) + 9] ^= 1
    damaged.write_bytes(data)
    cut = tmp_path / "cut.pth"
    for command in (
        ("keys", damaged, "--stats"),
        ("diff", whole, damaged, "--by", "digests"),
        ("diff", whole, damaged, "--by", "values"),
        ("component", damaged, "a", "-o", cut),
        ("units", damaged, "a", "--percent", 10, "-o", cut),
    ):
        assert "damaged.pth is damaged: tensor 'a' does not have" in refuse(*command), command
    assert not cut.exists()
    assert "1 tensor, 70 elements" in run("keys", damaged)  # names and shapes are whole


def test_a_copy_whose_bytes_are_others_is_not_what_its_receipt_says(
    tmp_path: Path, run: Run, refuse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, copy = tmp_path / "whole.pth", tmp_path / "copy.pth"
    torch.save({"a": torch.arange(70.0), "b": torch.ones(3)}, whole)
    run("component", whole, "a", "-o", copy)
    assert "WRONG" not in run("verify", copy)

    # A disk that is full says nothing of the copy.
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert "No space left" in refuse("verify", copy)

    data = bytearray(copy.read_bytes())
    data[data.index(bytes(200)) + 9] ^= 1
    copy.write_bytes(data)
    told = run("verify", copy, code=1)
    assert "values     WRONG" in told
