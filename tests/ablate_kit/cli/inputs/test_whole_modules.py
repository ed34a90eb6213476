"""Every command on files that hold a whole module; changed copies load in torch with it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.ablate_kit.conftest import Run


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(16, 4, batch_first=True)
        self.fc = nn.Linear(16, 16)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(x, x, x, need_weights=False)[0]
        return self.norm(x + self.fc(x))


class Detector(nn.Module):
    """Stands for a detection model: names, arguments and tensors as plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(8, 16), Layer(), Layer(), nn.Linear(16, 5))
        self.names = {0: "disc", 1: "square"}
        self.args = SimpleNamespace(imgsz=640, lr0=0.01)
        self.stride = torch.tensor([8.0, 16.0])
        self.register_buffer("grid", torch.ones(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def detector(seed: int) -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Detector().eval()


def whole(model: Detector) -> Any:
    return model


def as_ultralytics(model: Detector) -> Any:
    """The layout of Ultralytics' checkpoints, with half-precision weights and an average."""
    arguments = {"task": "detect", "imgsz": 640, "data": "shapes.yaml"}
    return {
        "epoch": 7, "best_fitness": 0.5, "model": model.half(), "ema": detector(2).half(),
        "updates": 12, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        "train_args": arguments, "date": "2026-01-01", "version": "8.3.0",
    }  # fmt: skip


LAYOUTS = {"whole": whole, "Ultralytics": as_ultralytics}


@pytest.fixture(params=[(name, legacy) for name in LAYOUTS for legacy in (False, True)], ids=str)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, legacy = request.param
    path = tmp_path / "best.pt"
    tree = LAYOUTS[name](detector(1))
    torch.save(tree, path, _use_new_zipfile_serialization=not legacy)
    return path


def loaded(path: Path) -> Detector:
    tree = torch.load(path, weights_only=False)
    model = tree if isinstance(tree, nn.Module) else tree["model"]
    assert isinstance(model, Detector)
    return model


def differing(one: Path, other: Path) -> dict[str, torch.Tensor]:
    """Of all tensors of two files' models, those that differ, and where."""
    before, after = loaded(one), loaded(other)
    assert torch.equal(before.stride, after.stride)
    assert torch.equal(before.grid, after.grid)
    assert (before.names, before.args) == (after.names, after.args)
    assert list(before.state_dict()) == list(after.state_dict())
    state = after.state_dict()
    return {
        name: tensor != state[name]
        for name, tensor in before.state_dict().items()
        if not torch.equal(tensor, state[name])
    }


def test_keys_and_diff_say_what_state_dict_does(run: Run, saved: Path, tmp_path: Path) -> None:
    state = loaded(saved).state_dict()
    rows = json.loads(run("keys", saved, "--format", "json"))
    assert [(row["name"], row["shape"], row["dtype"]) for row in rows] == [
        (name, list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in state.items()
    ]
    torch.save(state, tmp_path / "state.pth")
    printed = run("diff", saved, tmp_path / "state.pth", "--by", "values")
    assert printed.startswith(f"{len(state)} tensors have the same bytes")


def test_a_head_of_a_copy_is_gone_and_nothing_else(run: Run, saved: Path, tmp_path: Path) -> None:
    copies = tmp_path / "heads"
    run("heads", saved, "model.{layer}.self_attn", "--layers", 1, "--each", "-o", copies)
    made = sorted(copies.glob("*.pt"))
    assert len(made) == 4  # the file tells the number of heads
    found = differing(saved, made[2])
    assert list(found) == ["model.1.self_attn.out_proj.weight"]
    columns = found["model.1.self_attn.out_proj.weight"].any(dim=0).nonzero().flatten()
    assert columns.tolist() == [8, 9, 10, 11]
    model = loaded(made[2]).float()
    model(torch.ones(2, 6, 8))


def test_a_share_of_a_tensor(run: Run, saved: Path, tmp_path: Path) -> None:
    run("units", saved, "model.2.fc.weight", "--percent", "25", "-o", tmp_path / "u")
    (cut,) = (tmp_path / "u").glob("*.pt")
    found = differing(saved, cut)
    assert list(found) == ["model.2.fc.weight"]
    assert found["model.2.fc.weight"].sum() == 64


def test_a_receipt_is_verified_and_applied(run: Run, saved: Path, tmp_path: Path) -> None:
    copy, again = tmp_path / "c.pt", tmp_path / "again.pt"
    run("component", saved, "model.3", "-o", copy)
    assert set(differing(saved, copy)) == {"model.3.weight", "model.3.bias"}
    assert "WRONG" not in run("verify", copy)
    run("apply", saved, f"{copy}.ablation.json", "-o", again)
    assert again.read_bytes() == copy.read_bytes()


def test_the_average_is_cut_by_its_name(run: Run, tmp_path: Path) -> None:
    path, copy = tmp_path / "best.pt", tmp_path / "c.pt"
    torch.save(as_ultralytics(detector(1)), path)
    assert 'also in the file: --weights "ema"' in run("keys", path)
    run("component", path, "model.3", "--weights", "ema", "-o", copy)
    assert differing(path, copy) == {}
    ema = torch.load(copy, weights_only=False)["ema"]
    assert not ema.model[3].weight.any()
    assert "WRONG" not in run("verify", copy)


def test_meta_shows_classes_and_arguments(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save(as_ultralytics(detector(1)), path)
    lines = run("meta", path).splitlines()
    at = lines.index(f"model: {Detector.__module__}.Detector")
    assert lines[at + 1 : at + 6] == [
        "  1 tensor: 'stride'",
        "  names: {0: 'disc', 1: 'square'}",
        "  args: types.SimpleNamespace(imgsz=640, lr0=0.01)",
        "  model: torch.nn.modules.container.Sequential",
        "    0: torch.nn.modules.linear.Linear",
    ]
    assert "train_args: {'task': 'detect', 'imgsz': 640, 'data': 'shapes.yaml'}" in lines
    assert "epoch: 7" in lines
    assert not any("hook" in line for line in lines)
    torch.save(detector(1), path)
    lines = run("meta", path).splitlines()
    assert lines[1].startswith("weights: the top level")
    assert lines[2] == f"the whole file: {Detector.__module__}.Detector"
    assert "  names: {0: 'disc', 1: 'square'}" in lines


def test_a_class_that_nothing_knows_is_named(refuse: Run, tmp_path: Path) -> None:
    torch.save(as_ultralytics(detector(1)), tmp_path / "best.pt")
    told = refuse("study", tmp_path / "best.pt", "--shapes", "--weights", "model")
    assert f"best.pt is a whole module of the class {__name__}.Detector; no code of a file" in told
    assert "--model python:FILE.py:NAME (docs/your-own-detector.md)" in told
