"""Damaged files give our error or a checkpoint, and never anything else."""

import contextlib
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint, show


def small_torch(path: Path) -> None:
    weights = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2).expand(2)}
    torch.save({"model": weights, "epoch": 3, "classes": ["a", "b"]}, path)


def small_legacy(path: Path) -> None:
    weights = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2).expand(2)}
    tree = {"model": weights, "epoch": 3, "classes": ["a", "b"]}
    torch.save(tree, path, _use_new_zipfile_serialization=False)


def small_safetensors(path: Path) -> None:
    save_file({"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2)}, path, {"a": "b"})


WRITERS = {"torch": small_torch, "legacy": small_legacy, "safetensors": small_safetensors}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_truncation_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "whole"
    WRITERS[kind](path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["deimv2_atto_upstream.pth", "deimv2_atto/model.safetensors"])
def test_truncations_of_real_files_are_refused(shared: Path, tmp_path: Path, name: str) -> None:
    content = (shared / "models" / name).read_bytes()
    path = tmp_path / "cut"
    for length in random.Random(5).sample(range(len(content)), 40):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            open_archive(path)


@settings(deadline=None, max_examples=400)
@given(data=st.data(), kind=st.sampled_from(sorted(WRITERS)))
def test_mutated_files_open_or_give_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    path = tmp_path_factory.mktemp("d") / "file"
    WRITERS[kind](path)
    content = bytearray(path.read_bytes())
    # Padding is the larger part of a torch file; aim at what is read.
    interesting = [at for at, byte in enumerate(content) if byte not in b"Z\0"]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.sampled_from(interesting))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError), open_checkpoint(path) as checkpoint:
        show(checkpoint.archive.metadata)
        checkpoint.state_dict()
