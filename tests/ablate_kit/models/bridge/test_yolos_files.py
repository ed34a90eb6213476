"""YOLOS's files become Hugging Face folders that compute the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ablate_kit.hugging_face import named

from .official_files import (
    Change,
    Renaming,
    arguments,
    bridged,
    computes_the_same,
    family,
    no_arguments,
    official,
    packed,
    put,
    random_model,
    refused,
    renamed,
    save,
)

TOKENS, OUTPUTS = 7, 4
CONFIG = {
    "model_type": "yolos", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 40, "layer_norm_eps": 1e-6, "image_size": [48, 80],
    "num_detection_tokens": TOKENS, "num_labels": OUTPUTS,
}  # fmt: skip
NAMES: list[Renaming] = [
    (r"^vit\.embeddings\.detection_tokens", "backbone.det_token"),
    (r"^vit\.embeddings\.position_embeddings", "backbone.pos_embed"),
    (r"^vit\.embeddings\.patch_embeddings\.projection", "backbone.patch_embed.proj"),
    (r"^vit\.embeddings\.", "backbone."),
    (r"^vit\.encoder\.interpolation\.mid_position_embeddings", "backbone.mid_pos_embed"),
    (r"^vit\.encoder\.layer", "backbone.blocks"),
    (r"^vit\.layernorm", "backbone.norm"),
    (r"attention\.attention\.([qkv])[a-z]+", r"attn.\1"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"^class_labels_classifier", "class_embed"),
    (r"^bbox_predictor", "bbox_embed"),
]


def write(path: Path, change: Change | None = None, *, between: bool = True, **config: Any) -> Any:
    model = random_model({**CONFIG, "use_mid_position_embeddings": between, **config})
    if between:
        named(model, "interpolation.mid_position_embeddings")
    tensors = packed(official(model.state_dict(), NAMES), "attn")
    size = [48, 80]
    told = {"init_pe_size": size, "mid_pe_size": size if between else None, "eval_size": 96}
    save(path, tensors, told, change)
    return model


@pytest.mark.parametrize("between", [True, False])
def test_the_folder_computes_the_same(tmp_path: Path, between: bool) -> None:
    path = tmp_path / "official.pth"
    model = write(path, between=between)
    assert family(path) == "hustvl/YOLOS"
    assert bridged(path, tmp_path / "hf", heads=3) == (
        "names class_0 to class_3 (--class-names)",
        # The longer side is at most 159 pixels, or 160 where the shorter one is rounded first.
        "long images may be a patch shorter than the repository makes them",
    )
    # For another size than that of the position encodings, which are scaled.
    adapter = computes_the_same(tmp_path / "hf", model, 1, 3, 64, 96)
    prepared = adapter.prepare(np.zeros((50, 75, 3), np.uint8))
    # 96 by 144, cut to whole patches.
    assert prepared.inputs["pixel_values"].shape == (1, 3, 96, 144)
    with torch.no_grad():
        out = adapter.forward(prepared.inputs)
    assert len(adapter.decode(out, [prepared.origin])[0].scores) == TOKENS


def test_the_smallest_published_model_sees_smaller_images(tmp_path: Path) -> None:
    """What its file does not tell, its width and number of position encodings do."""

    published = {"hidden_size": 192, "image_size": [800, 1333], "num_labels": 91}
    write(tmp_path / "official.pth", no_arguments, between=False, **published)
    assert bridged(tmp_path / "official.pth", tmp_path / "hf") == (
        "COCO's class names, for 91 outputs (--class-names)",
        "3 heads in each attention (--num-heads)",
        "position encodings for images of 800, 1333 pixels",
        "512 pixels as the shorter side of an image (--set eval_size)",
    )
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 512, "longest_edge": 853}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_arguments, "does not tell init_pe_size, .* 15 position encodings"),
        (arguments(init_pe_size=[48, 96]), r"images of 48 by 96 pixels .* the 15 patches"),
        (arguments(mid_pe_size=[80, 48]), r"between layers for images of \(80, 48\) pixels"),
        (arguments(mid_pe_size=7), "mid_pe_size 7; expected numbers from 1 on"),
        (put("backbone.mid_pos_embed", torch.ones(2, 1, 99, 24)), "between layers for images"),
        (arguments(eval_size="96"), "eval_size is '96'; expected a number from 1 to 999,999"),
        (renamed("1.norm1", "1.norm3"), r'"backbone.blocks.1.norm3.\w+" has no place'),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    write(tmp_path / "official.pth", change)
    refused(tmp_path / "official.pth", message, heads=3)
