"""A detector of two stages, with shapes that follow the image and suppression within the network:
what a sweep replays of it is what runs in full, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.sweeps.backends.worker import RunOptions
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_sweep import run
from tests.ablate_kit.small_sweeps import sweep_recipe

CODE = """
import torch
from torch import nn

import ablate_kit as ak


class TwoStage(nn.Module):
    # Proposals, as many as there are in an image; what they cover; and suppression within the
    # network. Takes and returns lists, as torchvision does.

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 16, 16), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.proposals = nn.Conv2d(8, 5, 1)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, images):
        features = self.backbone(torch.stack([image for image in images]))
        return [self.one(*pair) for pair in zip(features, self.proposals(features))]

    def one(self, features, proposed):
        rows, columns = torch.nonzero(proposed[4] > proposed[4].mean(), as_tuple=True)
        cells = proposed[:4, rows, columns].T
        centers = torch.stack([columns, rows], dim=1) * 16 + 8
        boxes = torch.cat([centers - 9 - cells[:, :2].exp(), centers + 9 + cells[:, 2:].exp()], 1)
        covered = [
            features[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].mean((1, 2))
            for r, c in zip(rows.tolist(), columns.tolist())
        ]
        pooled = torch.stack(covered) if covered else features.new_zeros(0, 8)
        scores, labels = self.head(pooled).softmax(1).max(1)
        kept = []
        for k in scores.argsort(descending=True, stable=True).tolist():
            if all(overlap(boxes[k], boxes[other]) < 0.5 for other in kept):
                kept.append(k)
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def overlap(one, other):
    shared = (torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])).clamp(min=0)
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return (shared.prod() / (areas - shared.prod())).item()


def pixels(image):
    return torch.tensor(image).permute(2, 0, 1) / 255


def boxes(outputs, sizes):
    return [(one["boxes"], one["scores"], one["labels"]) for one in outputs]


def build(checkpoint, device):
    net = TwoStage()
    net.load_state_dict(checkpoint.state_dict())
    names = ["disc", "square", "triangle"]
    return ak.wrap(net, classes=names, prepare=pixels, decode=boxes, device=device)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> SweepRecipe:
    (tmp_path / "two_stage.py").write_text(CODE)
    names: dict[str, Any] = {}
    exec(compile(CODE, "two_stage.py", "exec"), names)  # noqa: S102
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(names["TwoStage"]().state_dict(), tmp_path / "two.pth")
    modules = {"kind": "modules", "pattern": ["head.*", "proposals"]}
    build = f"python:{tmp_path / 'two_stage.py'}:build"
    return sweep_recipe(
        tmp_path / "two.pth", [modules], framework=build, batch_size=2, resamples=20
    )


def test_replay_is_what_runs_in_full(recipe: SweepRecipe, tmp_path: Path) -> None:
    found = []
    for replay in (True, False):
        options = RunOptions(replay=replay)
        outcome = run(recipe, tmp_path / f"replay-{replay}", options=options)
        found.append({one.name: one.detections for one in outcome.ledger.results()})
    replayed, full = found
    assert list(replayed) == ["unmodified", "head.0", "head.2", "proposals"]
    for name, detections in replayed.items():
        for column in ("image", "boxes", "scores", "labels"):
            there, here = getattr(full[name], column), getattr(detections, column)
            assert np.array_equal(there, here), (name, column)
    counts = np.bincount(full["unmodified"].image, minlength=2)
    assert counts.min() > 0
    assert len(full["proposals"]) == 0  # none is above the mean where all are the same
    assert not np.array_equal(full["head.0"].scores, full["unmodified"].scores)
