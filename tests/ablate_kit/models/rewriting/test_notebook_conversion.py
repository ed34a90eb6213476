"""Notebook checkpoints become ours and ours theirs, with the same outputs."""

from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.rewriting.conversions import convert
from ablate_kit.models.rewriting.notebook_conversion import Conversion
from detector.config import HybridConfig, preset
from detector.network import legacy
from detector.network.model import HybridDetector

SMALL = preset("thesis").replace(
    widths=[16, 32, 20, 24], attention_heads=5, d_model=40, queries=10, depths=[1, 1, 1, 1]
)

VARIANTS = {
    "baseline": {},
    "gate fuse": legacy.GATE_FUSE_VARIANT,
    "denoising": legacy.denoising_variant(80),
}


def notebook(path: Path, config: HybridConfig) -> HybridDetector:
    """A checkpoint as the notebooks save it."""
    model = HybridDetector(config, seed=2)
    names = legacy.to_legacy(model.state_dict(), config)
    state = {names[name]: tensor for name, tensor in model.state_dict().items()}
    run = {
        "epoch": 7, "model": state, "optimizer": {"state": {}}, "scheduler": {"step": 3},
        "recipe": "{}", "best_ap": 0.25, "history": {"train_loss": [3.0, 2.0]},
    }  # fmt: skip
    torch.save(run, path)
    return model


def converted(source: Path, target: Path, *, to_legacy: bool = False) -> Conversion:
    with open_checkpoint(source) as checkpoint:
        return convert(checkpoint, target, to_legacy=to_legacy)


def module(path: Path) -> HybridDetector:
    with open_checkpoint(path) as checkpoint:
        return HybridAdapter.open(checkpoint).module


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_there_and_back(tmp_path: Path, variant: dict[str, object]) -> None:
    theirs, ours, again = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    model = notebook(theirs, SMALL.replace(**variant))
    done = converted(theirs, ours)
    assert done.kept == ("epoch", "best_ap", "history")
    assert done.dropped == ("optimizer", "recipe", "scheduler")
    assert done.renamed > 300
    saved = torch.load(ours, weights_only=True)
    assert saved["epoch"] == 7
    assert saved["best_ap"] == 0.25
    assert saved["history"] == {"train_loss": [3.0, 2.0]}
    assert saved["model"].keys() == model.state_dict().keys()
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        expected = model.eval()(image)["logits"]
        assert torch.equal(module(ours)(image)["logits"], expected)

    converted(ours, again, to_legacy=True)
    first, last = (torch.load(path, weights_only=True) for path in (theirs, again))
    assert first["model"].keys() == last["model"].keys()
    assert all(torch.equal(first["model"][k], last["model"][k]) for k in first["model"])
    assert last["history"] == first["history"]


def test_a_safetensors_file_holds_weights_config_and_classes(tmp_path: Path) -> None:
    model = notebook(tmp_path / "a.pth", SMALL)
    done = converted(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert done.kept == ()
    assert set(done.dropped) == {
        "best_ap", "epoch", "history", "optimizer", "recipe", "scheduler",
    }  # fmt: skip
    with open_checkpoint(tmp_path / "b.safetensors") as checkpoint:
        assert checkpoint.classes is not None
        assert len(checkpoint.classes) == 20
        assert checkpoint.tensors.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"csi": False}, "csi is False, theirs True"),
        ({"boxes": "refined"}, "boxes is 'refined', theirs 'absolute'"),
        ({"heads": 4}, "heads is 4, theirs 10"),
        ({"iou_head": True}, "iou_head is True, theirs False"),
        ({"stage2": "sum"}, "stage2 is 'sum', theirs 'dcn'"),
        ({"stage2": "gate"}, "stage2_deform_norm is True, theirs False"),
        ({"denoising": "contrastive"}, "query_objectness is False, theirs True"),
        ({"norm": "ln"}, 'norm "ln" crashes there'),
    ],
)
def test_what_the_notebooks_cannot_build_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = SMALL.replace(**changes)
    run = {"model": HybridDetector(config).state_dict(), "config": config.to_json()}
    torch.save(run, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        converted(tmp_path / "a.pth", tmp_path / "b.pth", to_legacy=True)
    assert not (tmp_path / "b.pth").exists()
