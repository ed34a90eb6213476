"""Opening a file of named tensors: names, layout and values, for every format."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate_kit.checkpoints import CheckpointError, UnresolvedObject, open_archive, show


def named(tree: Any, *path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield ".".join(path), tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from named(value, *path, str(key))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from named(value, *path, str(number))


def raw(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def assert_same(ours: torch.Tensor, reference: torch.Tensor) -> None:
    assert ours.dtype == reference.dtype
    assert ours.shape == reference.shape
    assert ours.stride() == reference.stride()
    assert raw(ours) == raw(reference)


def test_every_tensor_of_a_torch_file_equals_what_torch_loads(saved: Path) -> None:
    reference = dict(named(torch.load(saved, weights_only=True)))
    with open_archive(saved) as archive:
        assert list(archive.tensors) == list(reference)
        for name, tensor in reference.items():
            info = archive.tensors[name]
            assert info.dtype == str(tensor.dtype).removeprefix("torch.")
            assert info.shape == tensor.shape
            assert info.stride == tensor.stride()
            assert info.numel == tensor.numel()
            assert info.nbytes == tensor.numel() * tensor.element_size()
            assert info.contiguous == tensor.is_contiguous()
            assert_same(archive.read(name), tensor)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_complex_numbers_equal_what_torch_loads(tmp_path: Path) -> None:
    path = tmp_path / "complex32.pth"
    torch.save({"a": torch.tensor([1 + 2j, -0.5j]).to(torch.complex32)}, path)
    with open_archive(path) as archive:
        assert_same(archive.read("a"), torch.load(path, weights_only=True)["a"])


def test_tensors_of_one_storage_say_so(saved: Path) -> None:
    with open_archive(saved) as archive:
        tied = [archive.tensors[f"tied.{number}"].storage for number in range(3)]
        assert tied[0] == tied[1] == tied[2] == archive.tensors["transposed"].storage
        assert archive.tensors["float32"].storage != tied[0]


def test_what_is_read_is_owned_and_writable(saved: Path) -> None:
    before = saved.read_bytes()
    with open_archive(saved) as archive:
        first, again = archive.read("tied.0"), archive.read("tied.1")
        first.zero_()
        assert again.abs().sum() > 0
    assert saved.read_bytes() == before


def test_threads_read_at_the_same_time(saved: Path) -> None:
    reference = dict(named(torch.load(saved, weights_only=True)))
    with open_archive(saved) as archive, ThreadPoolExecutor(8) as pool:
        names = list(reference) * 20
        for name, tensor in zip(names, pool.map(archive.read, names), strict=True):
            assert_same(tensor, reference[name])


def test_plain_data_beside_the_tensors_is_the_metadata(saved: Path) -> None:
    with open_archive(saved) as archive:
        assert archive.format == "torch-zip"
        assert archive.metadata["not tensors"] == {
            "epoch": 3,
            "name": "toy",
            "nothing": None,
            "list": [1, 2.5, True],
        }
        assert show(archive.metadata["nested"]["pair"]) == "(tensor(float32, (1,)), 7)"


def test_every_tensor_of_a_safetensors_file_equals_what_safetensors_loads(
    tmp_path: Path, corpus: dict[str, Any]
) -> None:
    path = tmp_path / "corpus.safetensors"
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in named(corpus)
        if tensor.dtype not in (torch.complex32, torch.complex128)
        and tensor.dtype not in (torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
    }
    save_file(tensors, path, {"note": "a text"})
    reference = load_file(path)
    with open_archive(path) as archive:
        assert archive.format == "safetensors"
        assert archive.metadata == {"note": "a text"}
        assert set(archive.tensors) == set(reference)
        for name, tensor in reference.items():
            assert_same(archive.read(name), tensor)


def test_content_decides_the_format_not_the_suffix(saved: Path, tmp_path: Path) -> None:
    odd = tmp_path / "corpus.safetensors"
    saved.rename(odd)
    with open_archive(odd) as archive:
        assert archive.format == "torch-zip"


def test_a_folder_opens_its_one_weights_file(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with open_archive(tmp_path) as archive:
        assert archive.path == tmp_path / "model.safetensors"
    (tmp_path / "model.safetensors").unlink()
    with open_archive(tmp_path) as archive:
        assert archive.path == tmp_path / "pytorch_model.bin"


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"without model\.safetensors and "):
        open_archive(tmp_path)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    for content, words in {
        b"": "an empty file",
        bytes(100): "a file of zeros",
        b"\x89HDF\r\n\x1a\n....": "an HDF5 file",
        b"\x08\x07\x12\x07pytorch": "an ONNX model",
        b"<!DOCTYPE html><html>": "a web page",
        b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer",
        b"\x80\x02}q\x00.": "a plain pickle",
        b"\x1f\x8b\x08\x00": "a gzip archive",
        b'{"a": 1}': "a JSON file",
        b"once upon a time": 'a text that begins "once upon a time"',
    }.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=words) as caught:
            open_archive(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_torchscript_file_is_named(tmp_path: Path, zipped: Any) -> None:
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        open_archive(zipped({}, **{"constants.pkl": b"\x80\x02)."}))
    with zipfile.ZipFile(tmp_path / "ts.pt", "w") as file:  # as torch.jit.save writes
        file.writestr("ts/data.pkl", b"\x80\x02).")
        code = "ts/code/__torch__/torch/nn/modules/linear.py"
        file.writestr(code, "def forward(self): ...", zipfile.ZIP_DEFLATED)
        file.writestr("ts/constants.pkl", b"\x80\x02).")
    with pytest.raises(CheckpointError, match=r"ts\.pt is a TorchScript program"):
        open_archive(tmp_path / "ts.pt")


def test_files_that_cannot_be_opened_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot open .*nowhere\.pth: No such file"):
        open_archive(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_archive(Path("/dev/null"))


def test_an_unknown_name_suggests_the_nearest(saved: Path) -> None:
    with open_archive(saved) as archive, pytest.raises(CheckpointError, match='mean "float32"'):
        archive.read("flaot32")


def test_a_file_cut_short_while_open_gives_one_line(saved: Path) -> None:
    with open_archive(saved) as archive:
        with saved.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(CheckpointError, match="was cut short while it was open"):
            archive.read("float64")


def test_a_closed_archive_says_so(saved: Path) -> None:
    archive = open_archive(saved)
    archive.close()
    archive.close()
    assert archive.tensors["float32"].shape == (3, 4)
    with pytest.raises(ValueError, match="is closed"):
        archive.read("float32")


def test_listing_names_imports_neither_torch_nor_numpy(shared: Path) -> None:
    program = """
import sys
import ablate_kit.checkpoints as checkpoints
for path in sys.argv[1:]:
    with checkpoints.open_checkpoint(path) as checkpoint:
        assert all(info.shape is not None for info in checkpoint.tensors.values())
        print(len(checkpoint.tensors))
print({"torch", "numpy"} & set(sys.modules))
"""
    models = shared / "models"
    paths = [models / "deimv2_atto", models / "deimv2_atto_upstream.pth"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["470", "493", "set()", ""]


def test_published_files_equal_what_torch_and_safetensors_load(shared: Path) -> None:
    upstream, folder = (shared / "models" / f"deimv2_atto{end}" for end in ("_upstream.pth", ""))
    by_torch = dict(named(torch.load(upstream, weights_only=True)))
    for path, reference in {
        upstream: by_torch,
        folder: load_file(folder / "model.safetensors"),
    }.items():
        with open_archive(path) as archive:
            assert set(archive.tensors) == set(reference)
            for name, tensor in reference.items():
                assert_same(archive.read(name), tensor)


def test_a_training_run_that_torch_refuses_opens_with_its_objects_by_name(shared: Path) -> None:
    path = shared / "models" / "mmengine_runner_toy.pth"
    with pytest.raises(Exception, match="HistoryBuffer"):
        torch.load(path, weights_only=True)
    with open_archive(path) as archive:
        loss = archive.metadata["message_hub"]["log_scalars"]["train/loss"]
        assert isinstance(loss, UnresolvedObject)
        assert loss.name == "mmengine.logging.history_buffer.HistoryBuffer"
        assert show(loss).startswith(
            "mmengine.logging.history_buffer.HistoryBuffer(max_length=1000000, "
            "_log_history=numpy.ndarray("
        )
        assert archive.metadata["meta"]["dataset_meta"] == {"CLASSES": ("a", "b")}
        assert archive.read("state_dict.backbone.conv1.weight").shape == (8, 3, 7, 7)
