"""The Hugging Face folder computes what MMDetection's model does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.kinds.components import component
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.rewriting.conversions import write_bridge

SIZES = ((96, 128), (97, 160))


def outputs(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from mmdet.structures import DetDataSample

    size = tuple(images.shape[-2:])
    about = {"img_shape": size, "batch_input_shape": size, "pad_shape": size}
    with torch.no_grad():
        found = model(images, [DetDataSample(metainfo=about) for _ in images], mode="tensor")
    return found[0][-1], found[1][-1]


@pytest.mark.parametrize(
    "name",
    ["detr", "conditional", "dab", "deformable", "refine", "two-stage", "dino", "improved", "swin"],
)
def test_outputs_are_equal(saved: Callable[[str], Any], tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    one = saved(name)
    model = one.model()
    with open_checkpoint(one.checkpoint) as checkpoint:
        write_bridge(to_transformers(checkpoint), tmp_path / "hf")
    kind = transformers.AutoModelForObjectDetection
    own_code = name in ("dino", "improved", "swin")  # which transformers lacks
    theirs, report = kind.from_pretrained(
        tmp_path / "hf", output_loading_info=True, trust_remote_code=own_code
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(4))
        logits, boxes = outputs(model, images)
        with torch.no_grad():
            found = theirs.eval()(images)
        assert (found.logits - logits).abs().max() < 1e-4
        assert (found.pred_boxes - boxes).abs().max() < 1e-4
        assert logits.std() > 0.1
        assert boxes.std() > 0.01


def test_a_cut_file_goes_over_cut(saved: Callable[[str], Any], tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    with open_checkpoint(saved("detr").checkpoint) as checkpoint:
        write_variants(checkpoint, {cut: component(["query_embedding.weight"], "cut")})
    with open_checkpoint(cut) as checkpoint:
        write_bridge(to_transformers(checkpoint), tmp_path / "hf")
    with open_checkpoint(tmp_path / "hf") as folder:
        assert not folder.read("model.query_position_embeddings.weight").any()
