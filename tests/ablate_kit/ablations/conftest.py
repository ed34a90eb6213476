"""Live detectors in double precision, and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.kind import Kind, KindContext
from ablate_kit.checkpoints import open_checkpoint
from tests.ablate_kit.small_sweeps import adapter_of


@dataclass(frozen=True)
class Live:
    """A checkpoint's model, and ablations of it."""

    path: Path
    module: nn.Module
    names: Mapping[str, tuple[str, ...]]

    def run(self, ablation: Ablation | None = None) -> dict[str, Tensor]:
        """Scores and boxes of two images, of the model or of it with an ablation."""
        generator = torch.Generator().manual_seed(3)
        images = torch.rand(2, 3, 160, 160, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            if ablation is None:
                found = self.module(images)
            else:
                with applied(self.module, ablation, self.names):
                    found = self.module(images)
        return {"logits": found["logits"], "boxes": found.get("boxes", found.get("pred_boxes"))}

    def make(self, rule: Kind) -> list[Ablation]:
        with open_checkpoint(self.path) as checkpoint:
            return rule.make(KindContext(checkpoint))

    def difference(self, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
        return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Kind, Mapping[str, Tensor]], list[Ablation]]:
    """What a kind makes of a checkpoint with such tensors."""

    def make(kind: Kind, tensors: Mapping[str, Tensor]) -> list[Ablation]:
        torch.save(dict(tensors), tmp_path / "model.pth")
        with open_checkpoint(tmp_path / "model.pth") as checkpoint:
            return kind.make(KindContext(checkpoint))

    return make


@pytest.fixture(scope="session")
def live(folders: Callable[[str], Path], hybrid: Path) -> Callable[[str], Live]:
    """A small model with random weights: of ``hybrid``, or of a Hugging Face architecture."""

    @cache
    def open_live(name: str) -> Live:
        path = hybrid if name == "hybrid" else folders(name)
        adapter = adapter_of(path)
        return Live(path, adapter.module.double(), adapter.live_names())

    return open_live
