"""The detector's files are what the safetensors library would write, in a fixed order."""

import contextlib
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from detector.checkpoint import load_checkpoint, save_checkpoint, save_tensors, save_to
from detector.disk.safetensors_head import CODES
from detector.errors import UserError


def test_the_bytes_are_those_of_the_library(tmp_path: Path) -> None:
    tensors = {
        f"{name}.{i}": torch.zeros(2, (3 + i) * size, dtype=torch.uint8).view(getattr(torch, kind))
        for name in ("b", "a")
        for i, (kind, size) in enumerate(CODES.values())
    }
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4), "t": torch.eye(3).t()[1:]}
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_tensors(tmp_path / "ascii.safetensors", tensors, {"config": "e"})
    expected = safetensors.torch.save(contiguous, {"config": "e"})
    assert (tmp_path / "ascii.safetensors").read_bytes() == expected


def test_the_library_reads_what_it_would_write_otherwise(tmp_path: Path) -> None:
    tensors = {"scalar": torch.tensor(3.0), "t": torch.eye(3).t()[1:], "n": torch.arange(4)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"config": "é"})
    ours = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert ours.keys() == tensors.keys()
    assert all(torch.equal(ours[name], tensors[name]) for name in tensors)


def test_the_order_of_the_metadata_does_not_matter(tmp_path: Path) -> None:
    for name, metadata in (("a", {"x": "1", "y": "2"}), ("b", {"y": "2", "x": "1"})):
        save_tensors(tmp_path / name, {"w": torch.ones(2)}, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_full_disk_is_told_as_the_system_tells_it() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left on device"),
    ):
        save_to(file, {"weight": torch.zeros(500_000)})


def test_a_run_does_not_resume_from_other_bytes_than_it_wrote(tmp_path: Path) -> None:
    path, weight, device = tmp_path / "latest.pth", torch.arange(70.0), torch.device("cpu")
    save_checkpoint(path, {"weight": weight})
    assert torch.equal(load_checkpoint(path, device, "training")["weight"], weight)
    data = bytearray(path.read_bytes())
    data[data.index(weight.numpy().tobytes()) + 9] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"latest\.pth is damaged: .*data/0 in it does not"):
        load_checkpoint(path, device, "training")
    path.write_bytes(b"none")
    with pytest.raises(UserError, match="is not the checkpoint of a training run"):
        load_checkpoint(path, device, "training")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_does_not_resume_from_what_others_wrote(tmp_path: Path) -> None:
    """Torch raises whatever it meets in a pickle that is none of its own, sound as the zip is."""
    path, device = tmp_path / "latest.pth", torch.device("cpu")
    save_checkpoint(path, {"weight": torch.arange(7.0), "epoch": 3})
    with zipfile.ZipFile(path) as records:
        whole = {name: records.read(name) for name in records.namelist()}
    pickled = next(name for name in whole if name.endswith("data.pkl"))
    data = whole[pickled]
    for at in range(2, len(data)):
        for other in (data[at + 1 :], b"K" + data[at + 1 :], b")R" + data[at + 1 :]):
            with zipfile.ZipFile(path, "w") as records:
                for name, one in (whole | {pickled: data[:at] + other}).items():
                    records.writestr(name, one)
            with contextlib.suppress(UserError):
                load_checkpoint(path, device, "training")
