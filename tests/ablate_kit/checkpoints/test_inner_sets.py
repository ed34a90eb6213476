"""Averages among a model's own tensors, and detectors inside of the module that trains them."""

from typing import Any

import pytest
import torch

from ablate_kit.checkpoints import CheckpointError, open_checkpoint

W = {"neck.conv.weight": torch.ones(2, 3), "neck.conv_b.bias": torch.zeros(2)}
E = {name: tensor + 5 for name, tensor in W.items()}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def below(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def lightning(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"pytorch-lightning_version": "2.4.0", "state_dict": weights, **more}


def flat(prefix: str, by: str) -> dict[str, Any]:
    return {prefix + name.replace(".", by): tensor for name, tensor in E.items()}


@pytest.mark.parametrize(
    ("tree", "average"),
    [
        ({"state_dict": W | below("ema_model.module.", E)}, "state_dict.ema_model"),
        ({"model": W | below("ema.module.", E) | {"ema.n_averaged": torch.tensor(3)}}, "model.ema"),
        ({"state_dict": W | flat("ema_", "_")}, "state_dict.ema"),  # hooks of mmcv
        (W | flat("ema_", "_"), "ema"),
        ({"state_dict": W | flat("model_ema.", "")}, "state_dict.model_ema"),
        (lightning(below("model.", W) | below("ema_model.module.", E)), "state_dict.ema_model"),
        (lightning(below("model.", W) | below("ema_model.", E)), "state_dict.ema_model"),
        (
            lightning(W, callbacks={"EMA{'decay': 0.9}": {"ema_state_dict": E, "decay": 0.9}}),
            "callbacks.EMA{'decay': 0.9}.ema_state_dict",
        ),
        (  # as RF-DETR's training keeps it
            lightning(
                below("model.", W),
                callbacks={"C": {"average_model_state_dict": below("module.model.", E)}},
            ),
            "callbacks.C.average_model_state_dict.model",
        ),
    ],
)
def test_an_average_among_other_tensors_is_a_set_of_its_own(
    save: Any, told: list[str], tree: Any, average: str
) -> None:
    with open_checkpoint(save(tree)) as checkpoint:
        assert list(checkpoint.tensors) == list(W)
        assert all(torch.equal(checkpoint.read(name), W[name]) for name in W)
        assert average in [one.place for one in checkpoint.alternatives]
    assert len(told) == 1
    assert average in told[0]
    with open_checkpoint(save(tree), weights=average) as checkpoint:
        assert all(torch.equal(checkpoint.read(name), E[name]) for name in W)
    assert len(told) == 1  # nothing is to be said where the weights were chosen


def test_the_same_tensors_under_two_names_are_no_other_weights(save: Any, told: list[str]) -> None:
    tree = {"model": W, "state_dict": below("model.", W), "pytorch-lightning_version": "2.6"}
    with open_checkpoint(save(tree)) as checkpoint:
        assert checkpoint.place == "model"
        assert "state_dict.model" in [one.place for one in checkpoint.alternatives]
    assert not told
    with open_checkpoint(save({**tree, "model": E})):
        assert "model's weights 2 times" in told[0]


def test_an_average_is_known_part_by_part_and_beside_another(save: Any) -> None:
    both = {"neck.w": torch.ones(9), "head.w": torch.ones(2)}
    with open_checkpoint(save({"model": both | below("ema_", both)})) as checkpoint:
        assert list(checkpoint.tensors) == list(both)
        assert [one.place for one in checkpoint.alternatives] == ["model.ema"]
    two = below("ema_model.", W) | below("swa_model.module.", W)
    with open_checkpoint(save({"state_dict": below("model.", W) | two})) as checkpoint:
        assert list(checkpoint.tensors) == list(below("model.", W))
        assert [one.place for one in checkpoint.alternatives] == [
            "state_dict.ema_model",
            "state_dict.swa_model",
        ]


@pytest.mark.parametrize(
    "weights",
    [
        W | {"ema.conv.weight": torch.ones(5, 3)},  # a part that is called so
        W | {"ema.conv.weight": torch.ones(2, 3), "ema.other.bias": torch.ones(2)},
        W | {"ema.conv_b.bias": torch.ones(2)},  # a part of another's shape, in a model of more
        {"a.w": torch.ones(9, 9), "head.fc.w": torch.ones(3), "ema_head.fc.w": torch.ones(3)},
        {"a.b_c": torch.ones(2), "a_b.c": torch.ones(2), "ema_a_b_c": torch.ones(2)},
    ],
)
def test_what_is_no_average_of_all_stays(save: Any, weights: Any) -> None:
    with open_checkpoint(save({"model": weights})) as checkpoint:
        assert list(checkpoint.tensors) == list(weights)
        assert checkpoint.alternatives == ()


def test_the_detector_in_a_module_of_lightning(save: Any) -> None:
    training = {"criterion.empty_weight": torch.ones(3), "val_map.total": torch.ones(1)}
    path = save(lightning(below("model._orig_mod.", W) | training, optimizer_states=[OPTIMIZER]))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.place == "state_dict.model"
        assert list(checkpoint.tensors) == list(W)
        assert checkpoint.tensors["neck.conv.weight"].name == (
            "state_dict.model._orig_mod.neck.conv.weight"
        )
    with open_checkpoint(path, weights="state_dict") as checkpoint:
        assert "model.neck.conv.weight" in checkpoint.tensors
    # What is beside it may be a part of the detector.
    for name in ("heatmap_head.w", "mapper.w", "glossary.w"):
        with open_checkpoint(save(lightning(below("model.", W) | {name: torch.ones(1)}))) as one:
            assert one.place == "state_dict"
    # A module that is the detector itself.
    with open_checkpoint(save(lightning(W | {"head.w": torch.ones(1)}))) as checkpoint:
        assert checkpoint.place == "state_dict"


def test_the_raw_weights_that_lightning_keeps_beside_their_average(
    save: Any, told: list[str]
) -> None:
    # As its EMAWeightAveraging has it: the average is what loads, the others are kept.
    own = {"loss_weights": torch.ones(2)}
    tree = lightning(below("detector.", E) | own, current_model_state=below("detector.", W) | own)
    with open_checkpoint(save(tree)) as checkpoint:
        assert checkpoint.place == "state_dict.detector"
        others = [one.place for one in checkpoint.alternatives]
    assert others == ["state_dict", "current_model_state.detector", "current_model_state"]
    assert 'the model\'s weights 2 times: "state_dict.detector" is taken' in told[0]
    with open_checkpoint(save(tree), weights="current_model_state.detector") as checkpoint:
        assert all(torch.equal(checkpoint.read(name), W[name]) for name in W)


def test_the_only_set_below_a_key_can_be_called_by_it(save: Any) -> None:
    with open_checkpoint(save({"model": W, "ema": {"module": E, "updates": 3}}), "ema") as one:
        assert one.place == "ema.module"
        assert all(torch.equal(one.read(name), E[name]) for name in W)
    both = {"model": W, "ema": {"module": E, "updates": 3}, "em": E}
    with pytest.raises(CheckpointError, match='no weights "e" in'):
        open_checkpoint(save(both), "e")


def test_any_beginning_of_names_can_be_chosen(save: Any) -> None:
    tree = {"state_dict": below("student.", W) | below("teacher.module.", E)}
    with open_checkpoint(save(tree), weights="state_dict.teacher") as checkpoint:
        assert list(checkpoint.tensors) == list(W)
        assert torch.equal(checkpoint.read("neck.conv.weight"), E["neck.conv.weight"])
    with open_checkpoint(save(below("model.", W)), weights="model.neck") as checkpoint:
        assert list(checkpoint.tensors) == ["conv.weight", "conv_b.bias"]
    with pytest.raises(CheckpointError, match=r'no weights "state_dict\.pupil"'):
        open_checkpoint(save(tree), weights="state_dict.pupil")


@pytest.mark.parametrize(
    "tree",
    [OPTIMIZER, {"opt": OPTIMIZER}, {"epoch": 3, "rng_state": torch.zeros(9, dtype=torch.uint8)}],
)
def test_the_state_of_a_training_run_is_no_model(save: Any, tree: Any) -> None:
    with pytest.raises(CheckpointError, match="no weights that can be read"):
        open_checkpoint(save(tree))


def test_tensors_without_elements_are_no_model(save: Any) -> None:
    buffers = {f"norm.{n}": torch.ones(2) for n in range(3)}
    for kept in ({}, buffers):  # which are in no process alone
        module = {name: torch.empty(0) for name in W} | kept
        path = save({"module": module, "ds_version": "0.16"})
        with pytest.raises(CheckpointError, match=r"2 tensors without elements.*zero_to_fp32\.py"):
            open_checkpoint(path)
