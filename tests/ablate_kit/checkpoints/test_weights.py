"""Where a model's weights are found in a checkpoint, and what it says about the model."""

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ablate_kit.checkpoints import CheckpointError, open_archive, open_checkpoint, weight_sets

W = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2)}
E = {"conv.weight": torch.full((2, 3), 5.0), "conv.bias": torch.zeros(2)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(tree: Any) -> Path:
        path = tmp_path / "file.pth"
        torch.save(tree, path)
        return path

    return write


@pytest.mark.parametrize(
    ("tree", "places"),
    [
        (W, [""]),
        (OrderedDict(W), [""]),
        ({"model": W}, ["model"]),
        ({"epoch": 3, "state_dict": W, "optimizer": OPTIMIZER}, ["state_dict"]),
        ({"ema_state_dict": E, "model_state_dict": W}, ["model_state_dict", "ema_state_dict"]),
        ({"ema": {"module": E, "updates": 9}, "model": W, "lr_scheduler": {"x": W["conv.bias"]}},
         ["model", "ema.module"]),
        ({"model_ema": E, "state_dict_ema": E, "net": W}, ["net", "model_ema", "state_dict_ema"]),
        ({"params_ema": E, "params": W}, ["params", "params_ema"]),
        ({"ema": {"shadow": E, "decay": 0.9}}, ["ema.shadow"]),
        ({"model": {"state_dict": W, "steps": torch.tensor(3)}}, ["model.state_dict"]),
        ({"network": W, "torch_rng_state": torch.zeros(4)}, ["network"]),
        ({"model": W, "criterion": {"weight": torch.ones(3)}, "loss": torch.ones(1)}, ["model"]),
        ({"detector": W, "epoch": 3}, ["detector"]),
        ({"teacher": W, "student": W}, ["", "teacher", "student"]),
        ({"student": W, "model": W}, ["model", "student"]),
        ({"model": W, "ema_state": E, "trainer": {"iteration": 3, "inner": {"optim": OPTIMIZER}}},
         ["model", "ema_state"]),
        ([W, [OPTIMIZER]], ["0"]),
        ((OPTIMIZER, W), ["1"]),
        ({"model": W, "opts": [OPTIMIZER, OPTIMIZER]}, ["model"]),
        ({"model.q.packed": (W["conv.bias"], None), "model.k": [W["conv.bias"]], **W}, [""]),
        ({"model.q": {"0": W["conv.bias"]}, "model.k": W, **W}, ["", "model.q", "model.k"]),
        ({"backbone_state_dict": W, "neck_state_dict": W, "accuracy": 0.5},
         ["backbone_state_dict+neck_state_dict"]),
        (
            {
                "model_state_dict": W,
                "ema_state_dict": E,
                "backbone_state_dict": W,
                "ema_backbone_state_dict": E,
                "neck_state_dict": None,
                "ema_neck_state_dict": None,
                "optimizer_state_dict": OPTIMIZER,
                "scheduler_state_dict": {"last": torch.ones(1)},
            },
            [
                "model_state_dict",
                "backbone_state_dict",
                "ema_state_dict",
                "ema_backbone_state_dict",
            ],
        ),
    ],
)  # fmt: skip
def test_weight_sets_are_found_with_the_usual_one_first(
    save: Any, tree: Any, places: list[str]
) -> None:
    with open_archive(save(tree)) as archive:
        assert [found.place for found in weight_sets(archive)] == places


@pytest.mark.parametrize(
    ("tree", "keys"),
    [
        (W, ["conv.weight", "conv.bias"]),
        ({f"module.{key}": value for key, value in W.items()}, ["conv.weight", "conv.bias"]),
        ({"model": {f"_orig_mod.module.{key}": value for key, value in W.items()}},
         ["conv.weight", "conv.bias"]),
        ({"ema": {"n_averaged": torch.tensor(3), "module.conv.weight": torch.ones(1)}},
         ["conv.weight"]),
        ({"head._orig_mod.weight": torch.ones(1), "bias": torch.ones(1)}, ["head.weight", "bias"]),
        ({"a._orig_mod.w": torch.ones(1), "a.w": torch.ones(1)}, ["a._orig_mod.w", "a.w"]),
        (
            {
                "_fsdp_wrapped_module.a._fsdp_wrapped_module._checkpoint_wrapped_module.w": W[
                    "conv.bias"
                ],
                "_fsdp_wrapped_module._checkpoint_wrapped_module.b": W["conv.bias"],
            },
            ["a.w", "b"],
        ),
        (
            {
                "_checkpoint_wrapped_module.w": W["conv.bias"],
                "layers.0._checkpoint_wrapped_module.w": W["conv.bias"],
            },
            ["w", "layers.0.w"],
        ),
        ({"neck.weight": W["conv.bias"], "_checkpoint_wrapped_module.w": W["conv.bias"]},
         ["neck.weight", "w"]),
        ({"module.a": torch.ones(1), "b": torch.ones(1)}, ["module.a", "b"]),
        ({"state_dict": {"neck": {"a": torch.ones(1)}, "b": torch.ones(1)}}, ["neck.a", "b"]),
        ({"steps": torch.ones(1), "b": torch.ones(1)}, ["steps", "b"]),
        (
            {
                "backbone_state_dict": {"module.a": torch.ones(1)},
                "neck_state_dict": {"neck.b": torch.ones(1)},
            },
            ["backbone.a", "neck.b"],
        ),
        ({"teacher": {"a": torch.ones(1)}, "x": torch.ones(1)}, ["x", "teacher.a"]),
        ({"model": {"a": torch.ones(1), "count": torch.tensor(3)}}, ["a", "count"]),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_model_itself(save: Any, tree: Any, keys: list[str]) -> None:
    with open_checkpoint(save(tree)) as checkpoint:
        assert list(checkpoint.tensors) == keys


@pytest.mark.parametrize(
    "extra",
    [
        {"args": argparse.Namespace(nheads=6, num_queries=7)},
        {"args": {"nheads": 6}},
        {"hyper_parameters": {"nheads": 6}},  # PyTorch Lightning
        {"config": {"nheads": 6}, "args": argparse.Namespace(nheads=5)},
    ],
    ids=["namespace", "dictionary", "lightning", "config first"],
)
def test_settings_are_the_configuration_or_the_training_scripts(
    save: Any, extra: dict[str, Any]
) -> None:
    with open_checkpoint(save({"model": W, **extra})) as checkpoint:
        assert checkpoint.settings["nheads"] == 6


class Table(dict):  # type: ignore[type-arg]
    """As Lightning's AttributeDict."""


class Node:
    """As OmegaConf's: a table, a list or a value."""

    def __init__(self, **state: Any) -> None:
        vars(self).update(state)


def test_settings_are_tables_all_the_way_down(save: Any) -> None:
    tables = [
        {"hyper_parameters": Table(model=Table(dim=64, heads=[1, Table(a=2)]))},
        {
            "args": argparse.Namespace(
                model=argparse.Namespace(dim=64, heads=[1, argparse.Namespace(a=2)])
            )
        },
        {
            "cfg": Node(
                _content={
                    "model": Node(
                        _content={
                            "dim": Node(_val=64),
                            "heads": Node(_content=[Node(_val=1), Node(_content={"a": 2})]),
                        },
                        _parent=Node(_content=None),
                    )
                }
            )
        },
    ]
    for one in tables:
        with open_checkpoint(save({"model": {"w": torch.ones(2)}} | one)) as checkpoint:
            assert checkpoint.settings == {"model": {"dim": 64, "heads": [1, {"a": 2}]}}
    within: dict[str, Any] = {"n": 1}
    within["self"] = within
    with open_checkpoint(save({"model": {"w": torch.ones(2)}, "args": within})) as checkpoint:
        found = checkpoint.settings
        assert found["self"]["self"]["n"] == 1


@pytest.mark.parametrize("extra", [{}, {"args": ["--nheads", "6"]}, {"args": argparse.Namespace()}])
def test_settings_may_be_absent(save: Any, extra: dict[str, Any]) -> None:
    with open_checkpoint(save({"model": W, **extra})) as checkpoint:
        assert checkpoint.settings == {}


def test_weights_are_read_by_the_models_keys(save: Any) -> None:
    path = save({"model": {f"module.{key}": value for key, value in W.items()}, "ema": E})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.place == "model"
        assert checkpoint.tensors["conv.weight"].name == "model.module.conv.weight"
        assert torch.equal(checkpoint.read("conv.weight"), W["conv.weight"])
        state = checkpoint.state_dict()
        assert list(state) == list(W)
        assert all(torch.equal(state[key], W[key]) for key in W)
        with pytest.raises(CheckpointError, match=r'\(model\); did you mean "conv\.weight"'):
            checkpoint.read("conv.weigth")


def test_other_weights_are_chosen_by_name(save: Any) -> None:
    path = save({"model": W, "ema": {"module": E}, "optimizer": OPTIMIZER})
    with open_checkpoint(path) as checkpoint:
        assert [(other.place, other.is_average) for other in checkpoint.alternatives] == [
            ("ema.module", True)
        ]
    with open_checkpoint(path, weights="ema.module") as checkpoint:
        assert torch.equal(checkpoint.read("conv.weight"), E["conv.weight"])
        assert [other.place for other in checkpoint.alternatives] == ["model"]
    words = r'no weights "emma" in .* holds "model" \(2 tensors\), "ema\.module" \(2 tensors\)'
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(path, weights="emma")
    with pytest.raises(CheckpointError, match='no weights "optimizer"'):
        open_checkpoint(path, weights="optimizer")
    words = r"which holds weights without a name of their own \(2 tensors\)$"
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(save(W), weights="ema")


def test_files_without_weights_say_what_they_hold(save: Any) -> None:
    with pytest.raises(CheckpointError, match=r"no weights .* it holds \{'epoch': 3\}"):
        open_checkpoint(save({"epoch": 3}))
    with pytest.raises(CheckpointError, match=r"holds torch\.nn\.modules\.activation\.ReLU\("):
        open_checkpoint(save(torch.nn.ReLU()))


def test_config_and_classes_of_a_torch_file(save: Any) -> None:
    with open_checkpoint(save({"model": W, "config": {"d": 8}, "classes": ("a", "b")})) as one:
        assert one.config == {"d": 8}
        assert one.classes == ("a", "b")
        assert one.folder is None
    with open_checkpoint(save({"model": W, "config": '{"d": 8}', "classes": [1]})) as one:
        assert one.config == {"d": 8}
        assert one.classes is None
    with open_checkpoint(save({"model": W, "config": "configs/toy.py"})) as one:
        assert one.config is None


def test_config_and_classes_of_a_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file(W, path, {"config": json.dumps({"d": 8}), "classes": json.dumps(["a", "b"])})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.place == ""
        assert set(checkpoint.tensors) == set(W)
        assert checkpoint.config == {"d": 8}
        assert checkpoint.classes == ("a", "b")
    save_file(W, path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config is None
        assert checkpoint.classes is None


def test_config_of_a_folder(tmp_path: Path) -> None:
    save_file(W, tmp_path / "model.safetensors", {"config": '{"d": 1}'})
    config = tmp_path / "config.json"
    config.write_text('{"d": 8}')
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.folder == tmp_path
        assert checkpoint.config == {"d": 8}
    for content in ("[]", "{", "\udcff", "[" * 100_000):
        config.write_text(content, errors="surrogateescape")
        with pytest.raises(CheckpointError, match=r"config\.json is not"):
            open_checkpoint(tmp_path)


def test_real_checkpoints(shared: Path) -> None:
    models = shared / "models"
    with open_checkpoint(models / "deimv2_atto") as checkpoint:
        assert checkpoint.place == ""
        assert len(checkpoint.tensors) == 470
        assert checkpoint.config is not None
        assert checkpoint.config["architectures"] == ["UpstreamDeimv2ForObjectDetection"]
    with open_checkpoint(models / "deimv2_atto_upstream.pth") as checkpoint:
        assert checkpoint.place == "model"
        assert "backbone.stem.stem1.conv.weight" in checkpoint.tensors
        assert checkpoint.alternatives == ()
    with open_checkpoint(models / "mmengine_runner_toy.pth") as checkpoint:
        assert checkpoint.place == "state_dict"
        assert len(checkpoint.tensors) == 44
        assert checkpoint.alternatives == ()
