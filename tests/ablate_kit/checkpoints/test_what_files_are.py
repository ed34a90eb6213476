"""What is no checkpoint is named, with the way to the one that was meant."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import CheckpointError, open_checkpoint


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["b.pth", "a.safetensors", "optimizer.bin", "log.txt"], "files: a.safetensors, b.pth$"),
        (["pytorch_model_fsdp.bin", "random_states_0.pkl"], "files: pytorch_model_fsdp.bin$"),
        ([f"{n}.pt" for n in "abcdef"], r"a\.pt, b\.pt, c\.pt, d\.pt and 2 more$"),
        (["model-00001-of-00002.safetensors"], "1 shards, such as .* but no index"),
        (["__0_0.distcp", ".metadata"], "format_utils dcp_to_torch run FILE.pth"),
        (["latest", "zero_to_fp32.py"], "DeepSpeed: name mp_rank_00_model_states.pt"),
        (
            [
                "latest",
                *(f"global_step{n}/mp_rank_00_model_states.pt" for n in (9, 80, 700)),
                "global_step700/zero_pp_rank_0_mp_rank_00_optim_states.pt",
            ],
            r"it is of DeepSpeed: name global_step700/mp_rank_00_model_states\.pt in it$",
        ),
        (
            ["zero_to_fp32.py", "global_step9/zero_pp_rank_1_mp_rank_00_model_states.pt"],
            r"it is of DeepSpeed's ZeRO 3: name what python zero_to_fp32\.py makes of it$",
        ),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], r"zero_to_fp32\.py, above it, makes$"),
        (
            ["pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/__0_0.distcp", "rng_state_0.pth"],
            r"weights in pytorch_model_fsdp_0 are of torch\.distributed.* run/pytorch_model_fsdp_0",
        ),
        (["adapter_config.json", "adapter_model.safetensors"], "adapter of PEFT .*merge_and"),
        (
            ["config.json", "flax_model.msgpack"],
            r"flax_model\.msgpack, a checkpoint of Flax, by its",
        ),
        (["config.json", "tf_model.h5"], r"it holds tf_model\.h5, an HDF5 file \(Keras\?\)"),
        (["_CHECKPOINT_METADATA", "manifest.ocdbt"], "it is a checkpoint of Orbax"),
        (["m.xml", "m.bin"], "it is a model of OpenVINO; give the PyTorch checkpoint"),
        (["m.xml", "m.bin", "best.pt"], r"files: best\.pt$"),
        (["model.ncnn.bin", "model.ncnn.param"], "ncnn model, by its name; give the PyTorch"),
        (["saved_model.pb"], "it is a SavedModel of TensorFlow; of another"),
        (["config.json"], "it holds config.json$"),
        ([], "it holds no files$"),
        (
            [
                *(f"checkpoint-{n}/model.safetensors" for n in (500, 1000)),
                "best/pytorch_model.bin",
                "logs/events.out",
                "checkpoint-500/optimizer.pt",
                "state/rng_state.pth",
            ],
            r"name one of its folders: checkpoint-1000, checkpoint-500, best$",
        ),
    ],
)
def test_folders_say_what_they_hold(tmp_path: Path, files: list[str], words: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(folder)


def test_a_shard_that_is_missing_is_named_with_its_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"index\.json lists one\.safetensors, .* 2 shards"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", b"\n <html><body>Sign in</body></html>", "a web page"),
        ("a.pth", b'<?xml version="1.0"?><Error/>', "an XML document"),
        ("a.pth", b"Access denied: log in first.\nOr not.",
         'begins "Access denied: log in first."'),
        ("a.pth", b'  {"error": "Not found"}', "a JSON file"),
        ("a.pth.gz", b"\x1f\x8b\x08", "a gzip archive; unpack it first"),
        ("a.pth", b"Rar!\x1a\x07", "a RAR archive"),
        ("m.plan", b"\x01\xfe", "a TensorRT engine, by its name; give the PyTorch"),
        ("model.bin", b"ftrt\x01\x02", "a TensorRT engine; give the PyTorch"),
        ("openvino_model.bin", b"\x01\x02", "the weights of a model of OpenVINO, by its name"),
        ("m.onnx", b"\x08\x0a:\x10\x00\xff", "an ONNX model, by its name; give the PyTorch"),
        ("m.xml", b'<?xml version="1.0"?>\n<net name="m">', "a model of OpenVINO"),
        ("m.gguf", b"GGUF\x03", "a GGUF file; give the PyTorch checkpoint"),
        ("__0_0.distcp", b"PK\x03\x04\x00", "a part of .* torch.distributed.*; name its folder"),
        ("m.tflite", b"\x1c\x00\x00\x00TFL3", "or files of its detections to ablate score"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "Keras.*ablate score compares files of detections"),
        ("variables.data-00000-of-00001", b"\x01\xfe\xff", "a checkpoint of TensorFlow"),
        ("flax_model.msgpack", b"\x81\xa6params\xff", "a checkpoint of Flax"),
        ("a.pth", b"\xffx", "no file format known here"),
        ("a.pkl", pickle.dumps({"w": torch.ones(2)}), r"load it, and write it with torch\.save"),
    ],
)  # fmt: skip
def test_other_files_are_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (["m/archive_format", "m/models/model.json"], r"it is a program of torch\.export"),
        (["config.json", "model.weights.h5"], "it is a model of Keras"),
        (["m/model/model.pkl", "m/.data/extern_modules"], r"it is of torch\.package"),
        (["conv.npy"], r"it holds arrays of NumPy \(np\.savez\)"),
        (["readme.txt", "best.pth"], r"unpack 'best\.pth' first"),
        (["readme.txt"], r"it has no data\.pkl"),
        (["a/data.pkl", "b/data.pkl"], r"it has 2 data\.pkl"),
        ([], r"it has no data\.pkl"),
    ],
)
def test_other_archives_are_told(tmp_path: Path, records: list[str], words: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for record in records:
            archive.writestr(record, b"text")
    with pytest.raises(CheckpointError, match=rf"not one of torch\.save: {words}"):
        open_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"model": {"a.weight": np.ones(3)}}, "'a.weight', which is an array of NumPy; load it"),
        ({"a": torch.eye(2).to_sparse()}, "'a', which is sparse"),
        ({"optimizer": {"state": {0: {"step": torch.ones(1)}}}}, "the state of a training run"),
    ],
)
def test_files_without_weights_say_why(tmp_path: Path, tree: Any, words: str) -> None:
    torch.save(tree, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bset.pth", 'did you mean "best.pth"'),
        ("4", "the first 4 images are --limit 4"),
        ("-", "not read from standard input"),
        ("~/best.pth", "the shell expands ~"),
    ],
)
def test_a_file_that_is_not_there_has_a_neighbor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    (tmp_path / "best.pth").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(Path(name))
