"""Commands that read tensors refuse a torch file of which a byte is another."""

from collections.abc import Callable
from pathlib import Path

import torch

Run = Callable[..., str]


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
