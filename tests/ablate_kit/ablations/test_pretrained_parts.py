"""Grafting: exactly the tensors that fit, and a report of all others."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ablate_kit.ablations.pretrained_parts import Graft, detector_names, fill, graft
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from detector.config import HybridConfig, preset
from detector.network import legacy
from detector.network.model import HybridDetector

SMALL = preset("thesis").replace(
    num_classes=3, widths=[16, 32, 20, 24], attention_heads=5, d_model=40, queries=10,
    depths=[1, 1, 2, 1], neck_repeats=1,
)  # fmt: skip
PARTS = ["backbone", "neck"]


def done(model: HybridDetector, tensors: dict[str, Tensor], *rules: str, parts: list[str]) -> Graft:
    renamed = detector_names(tensors, model.config, rules)
    found = graft(model.state_dict(), tensors, parts, renamed)
    fill(model.state_dict(), found, tensors.__getitem__)
    return found


def pretraining_export(path: Path, config: HybridConfig) -> dict[str, Tensor]:
    """A file as the pretraining notebook exports it; the backbone's and neck's tensors, by ours."""
    model = HybridDetector(config, seed=8)
    names = legacy.to_legacy(model.state_dict(), config)
    theirs = {names[name]: tensor for name, tensor in model.state_dict().items()}
    content = {
        "backbone_state_dict": {
            name.removeprefix("backbone."): tensor for name, tensor in theirs.items()
            if name.startswith("backbone.") and "aux_head_" not in name
        },
        "neck_state_dict": {
            name.removeprefix("neck."): tensor for name, tensor in theirs.items()
            if name.startswith("neck.")
        },
        "accuracy": 71.5, "model_type": "backbone_and_neck", "is_ema": True,
        "architecture_config": {"depths": [1, 1, 2, 1]}, "training_config": {}, "info": "a test",
    }  # fmt: skip
    torch.save(content, path)
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(("backbone.", "neck.")) and "dense_heads" not in name
    }


def test_a_pretraining_export_fills_all_but_the_dense_heads(tmp_path: Path) -> None:
    expected = pretraining_export(tmp_path / "x.pth", SMALL)
    model = HybridDetector(SMALL.replace(num_classes=7), seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with open_checkpoint(tmp_path / "x.pth") as source:
        renamed = detector_names(source.tensors, model.config)
        found = graft(model.state_dict(), source.tensors, PARTS, renamed)
        fill(model.state_dict(), found, source.read)
    assert found.loaded.keys() == expected.keys()
    assert len(found.missing) == 6
    assert all("dense_heads" in name for name in found.missing)
    assert not found.unused
    assert not found.mismatched
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected.get(name, before[name])), name


def test_at_thesis_size_202_of_208_and_128_of_128(tmp_path: Path) -> None:
    pretraining_export(tmp_path / "x.pth", preset("thesis"))
    model = HybridDetector(preset("thesis"), seed=1)
    with open_checkpoint(tmp_path / "x.pth") as source:
        renamed = detector_names(source.tensors, model.config)
        found = graft(model.state_dict(), source.tensors, PARTS, renamed)
    loaded = [name.partition(".")[0] for name in found.loaded]
    assert (loaded.count("backbone"), loaded.count("neck")) == (202, 128)
    assert len(found.missing) == 6


def test_another_checkpoint_gives_the_parts_that_are_asked_for() -> None:
    model, other = HybridDetector(SMALL, seed=1), HybridDetector(SMALL, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = done(model, other.state_dict(), parts=["encoder", "decoder.layers.1"])
    theirs = other.state_dict()
    for name, tensor in model.state_dict().items():
        taken = name.startswith(("encoder.", "decoder.layers.1."))
        assert torch.equal(tensor, (theirs if taken else before)[name]), name
        assert (name in found.loaded) == taken


def test_other_shapes_and_dtypes_are_reported() -> None:
    model = HybridDetector(SMALL, seed=1)
    tensors = {
        "neck.keep.0.weight": torch.arange(40).half(),
        "neck.keep.1.weight": torch.ones(39),
        "other": torch.ones(1),
    }
    found = done(model, tensors, parts=["neck.keep"])
    assert found.cast == ["neck.keep.0.weight"]
    assert found.mismatched == {"neck.keep.1.weight": ((40,), (39,))}
    assert found.missing == ["neck.keep.2.weight"]
    assert found.unused == ["other"]
    state = model.state_dict()
    assert torch.equal(state["neck.keep.0.weight"], torch.arange(40).float())
    assert not torch.equal(state["neck.keep.1.weight"][:39], torch.ones(39))


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ("old.*=new.*", "old.a.weight", "new.a.weight"),
        ("old=new", "old.a.weight", "new.a.weight"),
        ("old=new", "older.weight", "older.weight"),
        ("*.blocks.*=backbone.*.*", "s.blocks.3.bias", "backbone.s.3.bias"),
        ("**.norm=x.**.n", "a.b.norm.weight", "x.a.b.n.weight"),
        ("a.b=c", "a.b", "c"),
    ],
)
def test_rules_rename(rule: str, name: str, expected: str) -> None:
    assert detector_names([name], SMALL, [rule]) == {name: expected}


@pytest.mark.parametrize(
    ("rules", "parts", "message"),
    [
        (["a"], PARTS, 'cannot read --map "a"; expected OLD=NEW'),
        (["a.*=b"], PARTS, "1 wildcards on the left, 0 on the right"),
        ([], ["nek"], 'no part "nek"; did you mean "neck"'),
        ([], ["neck"], "no tensor of the source belongs to neck"),
        (["a=neck.keep.0.weight", "b=neck.keep.0.weight"], ["neck"], 'both "a" and "b" are mapped'),
    ],
)
def test_mistakes_are_named(rules: list[str], parts: list[str], message: str) -> None:
    tensors = {"a": torch.ones(1), "b": torch.ones(1)}
    with pytest.raises(UserError, match=re.escape(message)):
        done(HybridDetector(SMALL), tensors, *rules, parts=parts)
