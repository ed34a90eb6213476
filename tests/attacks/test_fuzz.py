"""Valid files of every format, damaged: they open, or our own error says why not."""

import contextlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.checkpoints import CheckpointError, open_checkpoint, show
from ablate_kit.checkpoints.compare import digest_of_tensor
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import copy_folder_patched, write_patched
from ablate_kit.checkpoints.stats import stats
from ablate_kit.errors import UserError
from ablate_kit.reports.checkpoint_reports.metadata_outline import outline

WEIGHTS = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2).expand(2)}
TREE = {"model": WEIGHTS, "epoch": 3, "classes": ["a", "b"], "half": torch.ones(3).bfloat16()}


def whole(folder: Path, kind: str) -> Path:
    """A small valid checkpoint; of shards the index is the file to damage."""
    path = folder / "file"
    if kind == "module":
        norm, attention = torch.nn.BatchNorm1d(2), torch.nn.MultiheadAttention(2, 1)
        torch.save({"model": torch.nn.Sequential(norm, attention), "names": {0: "a"}}, path)
    elif kind in ("zip", "legacy"):
        torch.save(TREE, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in WEIGHTS.items()}, path, {"a": "b"})
    else:
        path = folder / "m.safetensors.index.json"
        save_file({name: tensor.contiguous() for name, tensor in WEIGHTS.items()}, folder / "s")
        files = dict.fromkeys(WEIGHTS, "s")
        path.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": files}))
    return path


@cache
def content(kind: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return whole(Path(folder), kind).read_bytes()


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """Bytes set, inserted, taken out, doubled, moved; aimed at what is read, not at padding."""
    data = bytearray(content(kind))
    for _ in range(draw(st.integers(1, 5))):
        if not data:
            break
        used = [at for at, byte in enumerate(data) if byte not in b"Z\0"] or [0]
        at = draw(st.sampled_from(used))
        match draw(st.sampled_from(["set", "insert", "remove", "copy", "number", "cut"])):
            case "set":
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "remove":
                del data[at : at + draw(st.integers(1, 16))]
            case "copy":
                other = draw(st.sampled_from(used))
                length = draw(st.integers(1, 64))
                data[other : other + length] = data[at : at + length]
            case "number":
                value = draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
                data[at : at + 8] = value.to_bytes(8, "little")
            case "cut":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("kind", ["zip", "legacy", "module", "safetensors", "index"])
@settings(max_examples=150)
@given(data=st.data())
def test_nothing_but_our_error_comes_out(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("f")
    path = whole(folder, kind)
    path.write_bytes(data.draw(damaged(kind)))
    with contextlib.suppress(CheckpointError), open_checkpoint(path) as checkpoint:
        show([checkpoint.archive.metadata, checkpoint.unsupported, checkpoint.settings])
        list(outline(checkpoint.archive.metadata, 5))
        for name, info in checkpoint.tensors.items():
            checkpoint.modules_above(name)
            digest_of_tensor(checkpoint, name)
            stats(checkpoint.archive, info)
            checkpoint.read(name)
        changes = [
            ElementPatch(one.name, bytes(one.itemsize)) for one in checkpoint.tensors.values()
        ]
        if checkpoint.folder:
            copy_folder_patched(checkpoint, changes, folder.with_name(f"{folder.name}-copy"))
        else:
            write_patched(checkpoint.archive, changes, folder / "copy")
            with contextlib.suppress(UserError):
                receipt_of(checkpoint)
            if kind == "safetensors":
                write_patched(checkpoint.archive, changes, folder / "noted", note=lambda _: "text")
                with open_checkpoint(folder / "noted") as copy:
                    assert list(copy.tensors) == list(checkpoint.tensors)
            with open_checkpoint(folder / "copy") as copy:
                assert list(copy.tensors) == list(checkpoint.tensors)


def test_a_short_run_of_make_fuzz(tmp_path: Path) -> None:
    """So many files of every kind, and commands, however slow the machine is."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("fuzz.py"), "--seed", "7", "--inputs", "720",
         "--commands", "8", "--minutes", "30", "--keep", tmp_path / "kept"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "720 inputs of 24 kinds in process, 8 through the command line" in done.stdout
    assert "0 tracebacks, 0 hangs, 0 errors of several lines" in done.stdout
    assert not (tmp_path / "kept").exists()
