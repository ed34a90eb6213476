"""A copy's suffix says what is in it, whatever command writes it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file


def test_a_copy_of_safetensors_is_named_so(run, refuse, hybrid, tmp_path: Path) -> None:
    for suffix in (".pth", ".pt", ".bin", ".ckpt"):
        told = refuse("component", hybrid, "encoder", "-o", tmp_path / f"x{suffix}")
        assert f"x{suffix} would be a safetensors file, as what it is made from; give a" in told
        assert told.endswith("a name with .safetensors\n")
    assert list(tmp_path.iterdir()) == []
    run("component", hybrid, "encoder", "-o", tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")
    run("component", hybrid, "encoder", "-o", tmp_path / "no_suffix")
    command = ("apply", hybrid, tmp_path / "x.safetensors", "-o", tmp_path / "y.pth")
    assert "would be a safetensors file" in refuse(*command)
    assert "would be a safetensors file" in refuse(*command, "--dry-run")


def test_a_copy_of_torch_is_not_named_safetensors(run, refuse, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2)}, tmp_path / "m.pth")
    command = ("component", tmp_path / "m.pth", "a", "-o")
    told = refuse(*command, tmp_path / "x.safetensors")
    assert "would be a torch file, as what it is made from; give a name with .pth" in told
    run(*command, tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt")["a.weight"].sum() == 0


def test_copies_of_a_file_with_a_wrong_suffix_get_the_right_one(
    run, hybrid, tmp_path: Path
) -> None:
    named = tmp_path / "really_safetensors.pth"
    named.write_bytes(hybrid.read_bytes())
    run("heads", named, "decoder.layers.0.self_attn", "--heads", 0, "-o", tmp_path / "out")
    (copy,) = (tmp_path / "out").iterdir()
    assert copy.suffix == ".safetensors"
    assert load_file(copy)
    run("verify", copy)  # made again without a suffix


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_folder_is_not_named_like_a_file(refuse, folders, tmp_path: Path, suffix: str) -> None:
    told = refuse("component", folders("detr"), "class_labels_classifier", "-o",
                  tmp_path / f"x{suffix}")  # fmt: skip
    assert f"x{suffix} would be a folder, as what it is made from; give a name with no" in told


def test_a_copy_of_a_pickle_of_arrays_is_named_so(run, refuse, tmp_path: Path) -> None:
    weights = {"model": {"a.weight": np.ones((2, 2), np.float32), "b": np.ones(3)}}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(weights, protocol=4))
    command = ("component", tmp_path / "m.pkl", "a", "-o")
    for name in ("x.pth", "x.safetensors"):
        told = refuse(*command, tmp_path / name)
        assert f"{name} would be a pickle file, as what it is made from; give a" in told
    run(*command, tmp_path / "x.pkl")
    assert np.load(tmp_path / "x.pkl", allow_pickle=True)["model"]["a.weight"].sum() == 0
