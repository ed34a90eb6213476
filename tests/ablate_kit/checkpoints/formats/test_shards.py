"""Checkpoints in several files: opened by their index, and edited as folders."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import copy_folder_patched, write_patched
from detector.tensor_bytes import bytes_of

INDEX = "model.safetensors.index.json"
WEIGHTS = {f"layers.{i}.weight": torch.arange(4.0) + 10 * i for i in range(4)}


def write_index(folder: Path, files: Any, name: str = INDEX) -> None:
    index = {"metadata": {"total_size": 64}, "weight_map": files}
    (folder / name).write_text(json.dumps(index))


def sharded(folder: Path, suffix: str = "safetensors", **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    files = {}
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    for number, names in enumerate((list(WEIGHTS)[:3], list(WEIGHTS)[3:]), 1):
        file = f"{stem}-{number:05}-of-00002.{suffix}"
        part = {name: WEIGHTS[name] for name in names}
        if suffix == "safetensors":
            save_file(part, folder / file, {"format": "pt"})
        else:
            torch.save(part, folder / file, **options)
        files |= dict.fromkeys(names, file)
    write_index(folder, files, f"{stem}.{suffix}.index.json")
    (folder / "config.json").write_text('{"model_type": "toy"}')
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "safetensors": lambda folder: sharded(folder),
    "bin": lambda folder: sharded(folder, "bin"),
    "legacy bin": lambda folder: sharded(folder, "bin", _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sharded_folder_opens_as_one(tmp_path: Path, kind: str) -> None:
    folder = KINDS[kind](tmp_path / "model")
    index = next(folder.glob("*.index.json"))
    for place in (folder, index):
        with open_checkpoint(place) as checkpoint:
            assert checkpoint.archive.format == "sharded"
            assert checkpoint.path == checkpoint.folder == folder
            assert checkpoint.config == {"model_type": "toy"}
            assert list(checkpoint.tensors) == list(WEIGHTS)
            for name, tensor in WEIGHTS.items():
                assert torch.equal(checkpoint.read(name), tensor)
            assert checkpoint.archive.files[0].name == index.name
            assert len(checkpoint.archive.files) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_edited_copy_is_a_folder_that_differs_in_one_shard(tmp_path: Path, kind: str) -> None:
    folder = KINDS[kind](tmp_path / "model")
    target = tmp_path / "copy"
    with open_checkpoint(folder) as checkpoint:
        name = checkpoint.tensor("layers.3.weight").name
        new = torch.tensor([9.0, 8.0])
        change = ElementPatch(name, bytes_of(new), (slice(1, 3),))
        copy_folder_patched(
            checkpoint, [change], target, note=lambda _: "hello", note_name="note.txt"
        )
    changed = {
        path.name
        for path in folder.iterdir()
        if path.read_bytes() != (target / path.name).read_bytes()
    }  # fmt: skip
    assert len(changed) == 1
    assert "00002-of" in changed.pop()
    assert (target / "note.txt").read_text() == "hello"
    shard = next(target.glob("*00002-of*"))
    loaded = load_file(shard) if shard.suffix == ".safetensors" else torch.load(shard)
    assert loaded["layers.3.weight"].tolist() == [30, 9, 8, 33]


def test_the_state_of_a_training_is_not_copied(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "checkpoint-500")
    state = ("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json")
    for name in (*state, "training_args.bin", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    with open_checkpoint(folder) as checkpoint:
        copy_folder_patched(checkpoint, [], tmp_path / "copy")
    left = {one.name for one in (tmp_path / "copy").iterdir()}
    assert left == {
        *(one.name for one in sharded(tmp_path / "model").iterdir()),
        "preprocessor_config.json",
    }


def test_a_single_file_goes_before_shards(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    with open_archive(folder) as archive:
        assert archive.path.name == "model.safetensors"


def test_an_index_alone_is_not_copied_to_a_file(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    with (
        open_archive(folder) as archive,
        pytest.raises(CheckpointError, match="a copy of it is a folder"),
    ):
        write_patched(archive, [], tmp_path / "x")


FIRST = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../model.safetensors", "sub/model.safetensors", "..", ".", "", "a\\b", "a\0b",
     7, None, ["x"]],
)  # fmt: skip
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, name: Any) -> None:
    folder = sharded(tmp_path / "model")
    write_index(folder, {"layers.0.weight": name})
    with pytest.raises(CheckpointError, match="expected one of its own folder"):
        open_archive(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    write_index(folder, dict.fromkeys(WEIGHTS, "link.safetensors"))
    with pytest.raises(CheckpointError, match="which is no file of the folder"):
        open_archive(folder)


def test_links_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "blobs").mkdir()
    folder = sharded(tmp_path / "snapshots" / "abc")
    for number, file in enumerate(sorted(folder.iterdir())):
        blob = tmp_path / "blobs" / str(number)
        file.rename(blob)
        file.symlink_to(blob)
    with open_checkpoint(folder) as checkpoint:
        assert torch.equal(checkpoint.read("layers.3.weight"), WEIGHTS["layers.3.weight"])
        copy_folder_patched(checkpoint, [], tmp_path / "copy")
    with open_checkpoint(tmp_path / "copy") as copy:
        assert list(copy.tensors) == list(WEIGHTS)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"layers.0.weight": FIRST, "nowhere": FIRST}, "'nowhere', which is not there"),
        ({"layers.0.weight": FIRST}, "holds tensor 'layers.1.weight', which"),
        ({"layers.0.weight": "absent.safetensors"}, "lists absent.safetensors, which"),
        ({"layers.0.weight": "config.json"}, "it seems to be a JSON file"),
        ({"layers.0.weight": INDEX}, "it seems to be a JSON file"),
        ({}, "has no weight_map"),
        ([1], "has no weight_map"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tmp_path: Path, files: Any, words: str) -> None:
    folder = sharded(tmp_path / "model")
    write_index(folder, files)
    with pytest.raises(CheckpointError, match=re.escape(words)):
        open_archive(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"weight_map": {"a": "x", "a": "y"}}', "[" * 100_000, "\xff"]
)
def test_an_index_that_is_no_index_gives_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"is not (valid JSON|an index)") as caught:
        open_archive(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    again = folder / "model-00002-of-00002.safetensors"
    save_file({name: WEIGHTS[name] for name in ("layers.0.weight", "layers.3.weight")}, again)
    with pytest.raises(CheckpointError, match=r"does not list for it"):
        open_archive(folder)
