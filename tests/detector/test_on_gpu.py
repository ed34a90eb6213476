"""The network and its training on a GPU: what the CPU computes, in every precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detector.config import preset
from detector.network.model import HybridDetector
from detector.network.ops import bilinear, neighborhood_attention
from tests.conftest import REAL_GPU
from tests.small_runs import SMALL, KilledError, Silent, trainer

pytestmark = pytest.mark.usefixtures("gpu")

# Without what is drawn on the device: a GPU draws other numbers.
UNDRAWN = {"drop_path": 0.0, "transformer_drop_path": 0.0, "deformable_dropout": 0.0}
MODEL = SMALL | {"widths": [16, 32, 32, 32], "stage2": "sum", "decoder_layers": 2}


def outputs_and_gradients(model: HybridDetector, images: Tensor) -> tuple[list[Tensor], Tensor]:
    model.zero_grad()
    out = model(images)
    found = [out["logits"], out["boxes"], *(x for pair in out["aux"] for x in pair), *out["dense"]]
    weights = torch.Generator().manual_seed(2)
    torch.stack(
        [(x * torch.randn(x.shape, generator=weights).to(x)).sum() for x in found]
    ).sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return [x.detach().cpu() for x in found], torch.cat(gradients).cpu()


@pytest.mark.parametrize(
    ("attention", "sums"),
    [(None, None), ("tiled", "bags")],  # the compiled ones are held to the same by themselves
)
def test_the_whole_network_computes_the_same(
    attention: str | None, sums: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"image_size": 96, "stage2": "gate", **UNDRAWN}
    config = replace(preset("tiny"), **changes)
    model = HybridDetector(config, seed=3).train()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    expected, expected_gradient = outputs_and_gradients(model, images)
    if attention is not None:
        monkeypatch.setattr(neighborhood_attention, "automatic", lambda *_: attention)
    if sums is not None:
        monkeypatch.setattr(bilinear, "automatic", lambda *_: sums)
    found, gradient = outputs_and_gradients(model.cuda(), images.cuda())
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() < 2e-3 * theirs.norm()
    assert (gradient - expected_gradient).norm() < 1e-2 * expected_gradient.norm()


@pytest.mark.parametrize(
    ("gpu", "precision", "most"),
    [
        ("virtual", "bf16", 0.05),
        pytest.param("real", "fp32", 1e-3, marks=REAL_GPU.marks),
        pytest.param("real", "tf32", 0.01, marks=REAL_GPU.marks),
        pytest.param("real", "bf16", 0.05, marks=REAL_GPU.marks),
        pytest.param("real", "fp16", 0.05, marks=REAL_GPU.marks),
    ],
    indirect=["gpu"],
)
def test_a_step_in_each_precision_has_the_loss_of_the_cpu(
    precision: str, most: float, tmp_path: Path
) -> None:
    epochs = 12 if precision == "fp16" else 2  # its scale comes down first
    losses = []
    for device, kind in (("cpu", "fp32"), ("cuda", precision)):
        run = trainer(
            tmp_path / device, 3, MODEL | UNDRAWN, device,
            epochs=epochs, precision=kind, flip=0.0, warmup_epochs=0.0,
        )  # fmt: skip
        before = [p.detach().clone() for p in run.model.parameters()]
        progress = Silent()
        run.run(progress)
        losses.append([record["train_loss"] for record in progress.records])
        after = list(run.model.parameters())
        assert all(p.isfinite().all() for p in after)
        assert any(not torch.equal(p, q) for p, q in zip(after, before, strict=True))
    (expected, *_), (first, *_) = losses
    assert first == pytest.approx(expected, rel=most)


def test_a_deterministic_run_repeats_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """With accumulation, drop paths, noise and an interruption within an epoch."""
    options = {
        "count": 14, "model": MODEL | {"denoising": "contrastive"}, "device": "cuda", "epochs": 2,
        "accumulate": 2, "save_every": 1, "deterministic": True, "ema": 0.9, "warmup_epochs": 0.0,
    }  # fmt: skip
    written = set()
    for name in ("one", "other"):
        written.add(trainer(tmp_path / name, **options).run(Silent()).read_bytes())
    with pytest.raises(KilledError):
        trainer(tmp_path / "parts", **options).run(Silent(stop=(2, 4)))
    resumed = trainer(tmp_path / "parts", **options)
    written.add(resumed.run(Silent(), resume=True).read_bytes())
    assert len(written) == 1
