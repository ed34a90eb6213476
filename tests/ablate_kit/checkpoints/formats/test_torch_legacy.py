"""torch files from before the zip archive: the same tensors as torch loads, and edits in place."""

import io
import pickle
import re
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import (
    CheckpointError,
    UnresolvedObject,
    open_archive,
    open_checkpoint,
    show,
)
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import write_patched
from detector.tensor_bytes import bytes_of
from tests.ablate_kit.crafted_pickles import Call, Pickler, Storage

MAGIC = 0x1950A86A20F9469CFC6C


def named(tree: Any, *path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield ".".join(path), tree
    elif isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from named(value, *path, str(key))


def save(tree: Any, path: Path, **options: Any) -> Path:
    torch.save(tree, path, _use_new_zipfile_serialization=False, **options)
    return path


# torch writes these types to legacy files and cannot load them again; we can.
_UNTYPED = ("float8", "uint16", "uint32", "uint64")


@pytest.fixture
def loadable(corpus: dict[str, Any]) -> dict[str, Any]:
    """The corpus without what torch cannot load from a legacy file."""
    tree = {name: value for name, value in corpus.items() if not name.startswith(_UNTYPED)}
    integers = {k: v for k, v in corpus["integers"].items() if k not in _UNTYPED}
    return tree | {"integers": integers}


@pytest.fixture
def legacy(tmp_path: Path, loadable: dict[str, Any]) -> Path:
    return save(loadable, tmp_path / "legacy.pth")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_tensor_equals_what_torch_loads(
    tmp_path: Path, loadable: dict[str, Any], protocol: int
) -> None:
    path = save(loadable, tmp_path / "legacy.pth", pickle_protocol=protocol)
    reference = dict(named(torch.load(path, weights_only=protocol == 2)))
    with open_archive(path) as archive:
        assert archive.format == "torch-legacy"
        assert list(archive.tensors) == list(reference)
        for name, tensor in reference.items():
            ours = archive.read(name)
            assert (ours.dtype, ours.shape, ours.stride()) == (
                tensor.dtype, tensor.shape, tensor.stride())  # fmt: skip
            assert bytes_of(ours) == bytes_of(tensor)
        assert archive.metadata["not tensors"]["name"] == "toy"
        tied = [archive.tensors[f"tied.{number}"].storage for number in range(3)]
        assert tied[0] == tied[1] == tied[2]


def test_types_that_torch_writes_and_cannot_load_are_read(
    tmp_path: Path, corpus: dict[str, Any]
) -> None:
    reference = {k: v for k, v in named(corpus) if k.rpartition(".")[2].startswith(_UNTYPED)}
    assert len(reference) == 8
    path = save(reference, tmp_path / "untyped.pth")
    with pytest.raises(AttributeError, match="UntypedStorage"):
        torch.load(path, weights_only=True)
    with open_archive(path) as archive:
        for name, tensor in reference.items():
            assert archive.read(name).dtype == tensor.dtype
            assert bytes_of(archive.read(name)) == bytes_of(tensor)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "integers.int64", "transposed", "sliced"])
def test_an_edit_changes_the_tensor_and_nothing_else(legacy: Path, name: str) -> None:
    before = dict(named(torch.load(legacy, weights_only=True)))
    new = before[name].flip(0)
    target = legacy.with_name("patched.pth")
    with open_archive(legacy) as archive:
        write_patched(archive, [ElementPatch(name, bytes_of(new))], target)
        info = archive.tensors[name]
        start, stop = info.offset, info.offset + info.span
    old, changed = legacy.read_bytes(), target.read_bytes()
    assert old[:start] + old[stop:] == changed[:start] + changed[stop:]
    after = dict(named(torch.load(target, weights_only=True)))
    assert bytes_of(after[name]) == bytes_of(new)
    shared = {n for n, t in before.items() if t.data_ptr() == before[name].data_ptr()}
    for other in set(before) - shared - {"transposed", "sliced", "column"} - {
        f"tied.{i}" for i in range(3)}:  # fmt: skip
        assert bytes_of(after[other]) == bytes_of(before[other])


def test_the_real_training_run_holds_the_tensors_of_its_zip_twin(
    shared: Path, tmp_path: Path
) -> None:
    path = shared / "models" / "mmengine_runner_toy_legacy.pth"
    with (
        open_checkpoint(path) as legacy,
        open_checkpoint(shared / "models" / "mmengine_runner_toy.pth") as twin,
    ):
        assert legacy.place == twin.place == "state_dict"
        assert list(legacy.tensors) == list(twin.tensors)
        for name in twin.tensors:
            assert bytes_of(legacy.read(name)) == bytes_of(twin.read(name))
        loss = legacy.archive.metadata["message_hub"]["log_scalars"]["train/loss"]
        assert isinstance(loss, UnresolvedObject)
        assert loss.name == "mmengine.logging.history_buffer.HistoryBuffer"
        name = legacy.tensors["backbone.conv1.weight"].name
        write_patched(legacy.archive, [ElementPatch(name, bytes(4))], tmp_path / "cut.pth")
    cut = load_with_stand_ins(tmp_path / "cut.pth")
    original = load_with_stand_ins(path)
    assert not cut["state_dict"]["backbone.conv1.weight"].any()
    assert torch.equal(
        cut["state_dict"]["query_embedding.weight"],
        original["state_dict"]["query_embedding.weight"],
    )
    assert cut["message_hub"].keys() == original["message_hub"].keys()


def load_with_stand_ins(path: Path) -> Any:
    """torch.load of a file of mmengine's without mmengine: its classes are empty ones."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("mmengine"):
                return type(
                    name.split(".")[0], (), dict.fromkeys(["min", "max", "mean", "current"])
                )
            return super().find_class(module, name)

    module = types.ModuleType("stand_ins")
    module.__dict__.update(
        Unpickler=Unpickler, load=lambda file, **_: Unpickler(file).load(), Pickler=pickle.Pickler
    )
    return torch.load(path, weights_only=False, pickle_module=module)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantized_tensors_stay_opaque_and_those_behind_them_are_found(tmp_path: Path) -> None:
    tree = {
        f"w{i}": torch.full((i + 1,), float(i)) for i in range(4)
    } | {"q": torch.quantize_per_tensor(torch.arange(7.0), 0.5, 3, torch.qint32)}  # fmt: skip
    path = save(tree, tmp_path / "q.pth")
    with open_archive(path) as archive:
        assert isinstance(archive.metadata["q"], UnresolvedObject)
        assert list(archive.tensors) == ["w0", "w1", "w2", "w3"]
        for i in range(4):
            assert archive.read(f"w{i}").tolist() == [float(i)] * (i + 1)


def test_pickles_larger_than_the_first_window(tmp_path: Path) -> None:
    notes = [f"{number:0200}" for number in range(6000)]
    path = save({"notes": notes, "w": torch.arange(3.0)}, tmp_path / "long.pth")
    with open_archive(path) as archive:
        assert archive.metadata["notes"] == notes
        assert archive.read("w").tolist() == [0, 1, 2]


def tensor(storage: Storage, offset: int, size: Any, stride: Any) -> Call:
    return Call(torch._utils._rebuild_tensor, storage, offset, size, stride)


def crafted(path: Path, tree: Any, *storages: tuple[Any, int, bytes]) -> Path:
    buffer = io.BytesIO()
    for value in (MAGIC, 1001, {"little_endian": True}):
        pickle.dump(value, buffer, 2)
    Pickler(buffer, 2).dump(tree)
    pickle.dump([key for key, _, _ in storages], buffer, 2)
    for _, numel, data in storages:
        buffer.write(struct.pack("<q", numel) + data)
    path.write_bytes(buffer.getvalue())
    return path


DATA = np.arange(6, dtype=np.float32)


def test_views_of_storages_as_old_torch_wrote_them(tmp_path: Path) -> None:
    part = Storage("storage", torch.FloatStorage, "1", "cpu", 6, ("2", 2, 3))
    whole = Storage("storage", torch.FloatStorage, "1", "cpu", 6, None)
    tree = {"part": tensor(part, 1, (2,), (1,)), "whole": tensor(whole, 0, (2, 3), (3, 1))}
    path = crafted(tmp_path / "views.pth", tree, ("1", 6, DATA.tobytes()))
    reference = torch.load(path, weights_only=True)
    assert reference["part"].tolist() == [3, 4]
    with open_archive(path) as archive:
        assert archive.read("part").tolist() == [3, 4]
        assert archive.read("whole").tolist() == [[0, 1, 2], [3, 4, 5]]
        assert archive.tensors["part"].storage == archive.tensors["whole"].storage


def test_a_class_saved_with_its_source_is_shown(tmp_path: Path) -> None:
    module = Storage("module", torch.nn.Linear, "linear.py", "class Linear: ...")
    path = crafted(tmp_path / "module.pth", {"class": module})
    with open_archive(path) as archive:
        assert show(archive.metadata["class"]) == "torch.nn.modules.linear.Linear"


def bad(**changes: Any) -> tuple[Any, list[tuple[Any, int, bytes]]]:
    given = {"kind": torch.FloatStorage, "key": "1", "numel": 6, "view": None, "size": (6,)}
    given |= changes
    ref = Storage("storage", given["kind"], given["key"], "cpu", given["numel"], given["view"])
    return {"w": tensor(ref, 0, given["size"], (1,))}, [("1", 6, DATA.tobytes())]


@pytest.mark.parametrize(
    ("changes", "storages", "words"),
    [
        ({"numel": 5}, None, "should hold 5 elements, but has 6"),
        ({"numel": 2**40}, [("1", 2**40, b"")], "reaches beyond the end of the file"),
        ({"numel": -1}, None, "which is no storage"),
        ({"kind": pickle.Pickler}, None, "how many bytes an element of a 'Pickler' has"),
        ({"size": (7,)}, None, "reaches beyond its storage"),
        ({"view": ("2", 4, 3)}, None, "has a view ('2', 4, 3) of a storage of 6 elements"),
        ({"view": ("2", 4, 2), "size": (3,)}, None, "reaches beyond its storage"),
        ({}, [], "storage '1' is missing"),
        ({}, [("1", 6, DATA.tobytes())] * 2, "lists storage '1' twice"),
        ({}, [("9", 6, DATA.tobytes())], "lists storage '9' without a tensor"),
        ({"key": (1, 2)}, None, "which is no key"),
        ({}, [((1, 2), 6, DATA.tobytes())], "it refers to storage (1, 2), which is no key"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, changes: dict[str, Any], storages: Any, words: str
) -> None:
    tree, usual = bad(**changes)
    path = crafted(tmp_path / "bad.pth", tree, *(usual if storages is None else storages))
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        open_archive(path)
    assert str(path) in str(caught.value)


def test_one_storage_described_in_two_ways_is_refused(tmp_path: Path) -> None:
    refs = [
        Storage("storage", kind, "1", "cpu", 6, None)
        for kind in (torch.FloatStorage, torch.IntStorage)
    ]
    tree = [tensor(one, 0, (6,), (1,)) for one in refs]
    path = crafted(tmp_path / "two.pth", tree, ("1", 6, DATA.tobytes()))
    with pytest.raises(CheckpointError, match="in two ways"):
        open_archive(path)


def test_nothing_that_the_file_names_is_imported(tmp_path: Path) -> None:
    path = crafted(tmp_path / "evil.pth", {"w": Call(__import__, "antigravity")})
    with open_archive(path) as archive:
        assert show(archive.metadata["w"]) == "builtins.__import__('antigravity')"
    assert "antigravity" not in sys.modules
