"""Without MMDetection's help: its runner's files are read and cut, and load in it as before."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.attention import attentions
from ablate_kit.checkpoints import open_checkpoint

MODELS = ("detr", "conditional", "dab", "deformable", "refine", "two-stage", "dino")


def ablate(*arguments: object) -> str:
    command = [sys.executable, "-m", "ablate_kit", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", MODELS)
def test_every_attention_is_found_with_its_heads(saved: Callable[[str], Any], name: str) -> None:
    one = saved(name)
    kinds = {"MultiheadAttention", "ConditionalAttention", "MultiScaleDeformableAttention"}
    # The wrapper of mmcv has the same class name as torch's, which holds the tensors.
    expected = {
        place: module.num_heads
        for place, module in one.model().named_modules()
        if type(module).__name__ in kinds and not hasattr(module, "attn")
    }
    with open_checkpoint(one.checkpoint) as checkpoint:
        found = {a.prefix: a.heads for a in attentions(checkpoint.tensors, checkpoint.config)}
    assert found == expected
    assert len(set(found.values())) > 1


def same(a: Any, b: Any) -> bool:
    """Whether two unpickled objects are equal in all that they hold."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "_log_history"):
        return same(vars(a), vars(b))
    return bool((a == b).all()) if hasattr(a, "all") else bool(a == b)


@pytest.mark.parametrize("name", ["detr", "conditional", "deformable", "dino"])
def test_a_copy_loads_as_the_original_does(
    saved: Callable[[str], Any], tmp_path: Path, name: str
) -> None:
    one = saved(name)
    ablate("heads", one.checkpoint, "decoder.layers.1.cross_attn", "--heads", 2, "-o", tmp_path)
    (path,) = tmp_path.glob("*.pth")
    before, after = (torch.load(file) for file in (one.checkpoint, path))
    changed = {
        key
        for key, value in before["state_dict"].items()
        if not torch.equal(value, after["state_dict"][key])
    }
    projection = {"detr": "attn.out_proj", "conditional": "out_proj"}.get(name, "output_proj")
    assert changed == {f"decoder.layers.1.cross_attn.{projection}.weight"}
    assert "HistoryBuffer" in str(type(next(iter(before["message_hub"]["log_scalars"].values()))))
    for part in ("meta", "optimizer", "param_schedulers", "message_hub"):
        assert same(before[part], after[part]), part
    type(one)(one.config, path).model()  # strictly
    assert "bytes      ok" in ablate("verify", path)


def test_tied_heads_are_said(saved: Callable[[str], Any], tmp_path: Path) -> None:
    path = saved("deformable").checkpoint
    text = ablate("component", path, "bbox_head.cls_branches", "-o", tmp_path / "x.pth")
    assert "bbox_head.cls_branches.1.weight is the same tensor" in text
