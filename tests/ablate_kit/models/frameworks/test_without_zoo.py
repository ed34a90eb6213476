"""Adapters of packages that are not there, and what needs none of them."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.libreyolo import renamed
from ablate_kit.models.opening.open import open_adapter


@pytest.mark.parametrize(
    ("model", "package"), [("torchvision:ssd300_vgg16", "torchvision"), ("libreyolo", "libreyolo")]
)
def test_what_is_not_installed_is_said_in_a_line(
    model: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [package, *sys.modules]:
        if name.partition(".")[0] == package:  # where it is installed, parts of it are there, too
            monkeypatch.setitem(sys.modules, name, None)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with (
        open_checkpoint(tmp_path / "model.safetensors") as checkpoint,
        pytest.raises(UserError, match=rf"{package}.*is not installed.*ablate-kit\[{package}\]"),
    ):
        open_adapter(checkpoint, model)


def test_tensors_are_known_by_name_or_by_what_they_hold() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(3, 4, generator=draw) for _ in range(3))
    stored = {"same": a, "old.name": b, "twice": c, "lost": torch.randn(2, generator=draw)}
    live = {"same": a, "new.name": b, "one": c, "another": c, "own": torch.ones(3)}
    assert renamed(stored, live) == {"same": "same", "old.name": "new.name"}
    moved = {"x": b, "y": a}  # a name alone is no proof
    assert renamed({"x": a, "y": b}, moved) == {"x": "y", "y": "x"}
