"""Dictionaries of NumPy arrays in plain pickles: read and cut where their bytes lie."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import write_patched
from ablate_kit.checkpoints.values import read_bits
from tests.ablate_kit.crafted_pickles import Call


def weights():
    rng = np.random.default_rng(0)
    return {
        "model": {
            "backbone.conv.weight": rng.random((4, 3, 3, 3), np.float32),
            "head.bias": np.zeros(7, np.float32),
            "head.same": np.zeros(7, np.float32),
            "anchors": np.asfortranarray(rng.random((5, 4))),
            "step": np.array([7], np.int64),
        },
        "__author__": "somebody",
    }


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_tensors(tmp_path: Path, protocol: int) -> None:
    values, path = weights(), tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.place == "model"
        assert list(checkpoint.tensors) == list(values["model"])
        for name, info in checkpoint.tensors.items():
            array = values["model"][name]
            bits = read_bits(checkpoint.archive, info)
            assert np.array_equal(bits.view(array.dtype), array), name
            assert np.array_equal(checkpoint.archive.read(info.name).numpy(), array)
        assert checkpoint.archive.metadata["__author__"] == "somebody"
        write_patched(
            checkpoint.archive,
            [ElementPatch("model.head.bias", np.ones(7, np.float32))],
            tmp_path / "cut.pkl",
        )
    changed = np.load(tmp_path / "cut.pkl", allow_pickle=True)["model"]
    values["model"]["head.bias"] += 1
    for name, array in values["model"].items():  # head.same had the same bytes, and keeps them
        assert np.array_equal(changed[name], array), name


def test_what_cannot_be_read_in_place_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(weights(), protocol=2))
    with pytest.raises(CheckpointError, match=r"text, as pickle's protocol 2 does: .* protocol 4"):
        open_archive(path)
    for protocol in (0, 1):
        path.write_bytes(pickle.dumps(weights(), protocol=protocol))
        with pytest.raises(CheckpointError, match="it seems to be a pickle of protocol 0 or 1"):
            open_archive(path)
    path.write_bytes(pickle.dumps({"a": np.array(["b"])}))
    with pytest.raises(CheckpointError, match="holds arrays of a kind that is not read"):
        open_archive(path)
    path.write_bytes(pickle.dumps({"a": np.ones(3, ">f4")}))
    with pytest.raises(CheckpointError, match="in another byte order"):
        open_archive(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match=r"a plain pickle, not of torch\.save, and holds no"):
        open_archive(path)
    path.write_bytes(pickle.dumps(weights())[:-40])
    with pytest.raises(CheckpointError, match="cut short"):
        open_archive(path)


def test_files_of_paddle_are_listed_and_not_cut(tmp_path: Path) -> None:
    """Their linear layers keep weights transposed: what is known of axes is false there."""
    path, array = tmp_path / "model.pdparams", np.ones((2, 3), np.float32)
    mark = {"StructuredToParameterName@@": {"fc.weight": "linear_0.w_0"}}
    nested = {"model": {"fc.weight": Call(tuple, ("linear_0.w_0", array))}, "epoch": 3}
    for tree in ({"fc.weight": array, **mark}, nested):
        path.write_bytes(pickle.dumps(tree, protocol=4))
        with open_checkpoint(path, listing=True) as checkpoint:
            assert checkpoint.archive.format == "paddle"
            assert list(checkpoint.tensors) == ["fc.weight"]
            assert checkpoint.tensors["fc.weight"].shape == (2, 3)
        with pytest.raises(CheckpointError, match=r"is of Paddle, .* keys, meta and diff read it"):
            open_checkpoint(path)
        index = tmp_path / "model.index.json"
        index.write_text(json.dumps({"weight_map": {"fc.weight": path.name}}))
        with pytest.raises(CheckpointError, match=r"lists model\.pdparams, which is of Paddle"):
            open_archive(index)
    path.write_bytes(pickle.dumps(nested, protocol=2))
    with pytest.raises(CheckpointError, match="spells its arrays as text"):
        open_archive(path)


def test_shapes_that_do_not_fit_are_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    whole = pickle.dumps({"a": np.ones(300, np.float32)}, protocol=4)
    assert whole.count((300).to_bytes(2, "little")) == 1
    path.write_bytes(whole.replace((300).to_bytes(2, "little"), (301).to_bytes(2, "little")))
    with pytest.raises(CheckpointError, match="plain pickle"):
        open_archive(path)


def test_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({**weights(), "harm": Call(os.mkdir, str(tmp_path / "made"))}))
    with open_archive(path) as archive:
        assert len(archive.tensors) == 5
    assert not (tmp_path / "made").exists()
