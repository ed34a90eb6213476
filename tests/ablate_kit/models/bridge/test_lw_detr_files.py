"""LW-DETR's files become Hugging Face folders that compute the same."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.ablate_kit.hugging_face import named

from .official_files import (
    LW_DETR_DECODER,
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
    without,
)

OUTPUTS, QUERIES = 4, 7
BACKBONE = {
    "model_type": "lw_detr_vit", "hidden_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 12, "mlp_ratio": 2, "image_size": 640, "pretrain_image_size": 96,
    "window_block_indices": [0, 2], "out_features": ["stage2", "stage3"],
}  # fmt: skip
CONFIG = {
    "model_type": "lw_detr", "backbone_config": BACKBONE, "projector_scale_factors": [1.0],
    "d_model": 32, "c2f_num_blocks": 2, "decoder_layers": 2, "decoder_ffn_dim": 24,
    "decoder_n_points": 3, "decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 4,
    "num_queries": QUERIES, "group_detr": 2, "num_labels": OUTPUTS,
}  # fmt: skip
TWO_LEVELS = CONFIG | {"projector_scale_factors": [2.0, 0.5]}
VARIANTS = {
    "one level": CONFIG,
    "two levels": TWO_LEVELS,
    # More than 512 channels are halved before they become a larger map.
    "wide": TWO_LEVELS | {"backbone_config": BACKBONE | {"hidden_size": 516}},
}
ARGUMENTS = {
    "sa_nheads": 2, "ca_nheads": 4, "window_block_indexes": [0, 2], "out_feature_indexes": [1, -1],
    "bbox_reparam": True, "square_resize_div_64": True, "num_select": QUERIES,
}  # fmt: skip
NAMES: list[Renaming] = [
    (r"^model\.backbone\.backbone\.embeddings\.position_embeddings",
     "backbone.0.encoder.pos_embed"),
    (r"^model\.backbone\.backbone\.embeddings\.proj\w+", "backbone.0.encoder.patch_embed.proj"),
    (r"^model\.backbone\.backbone\.encoder\.layer", "backbone.0.encoder.blocks"),
    (r"attention\.([qv])_proj\.bias", r"attn.\1_bias"),
    (r"attention\.([qkv])_proj", r"attn.\1"),
    (r"attention\.o_proj", "attn.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    (r"intermediate\.fc", "mlp.fc"),
    (r"^model\.backbone\.projector\.scale_layers\.(\d)\.sampling_layers\.(\d)\.layers",
     r"backbone.0.projector.stages_sampling.\1.\2"),
    (r"^model\.backbone\.projector\.scale_layers\.(\d)\.projector_layer",
     r"backbone.0.projector.stages.\1.0"),
    (r"^model\.backbone\.projector\.scale_layers\.(\d)\.layer_norm",
     r"backbone.0.projector.stages.\1.1"),
    (r"^(backbone.*)\.bottlenecks", r"\1.m"),
    (r"^(backbone.*)conv([12])\.(conv|norm)", r"\1cv\2.\3"),
    (r"^(backbone\.0\.projector.*)\.norm", r"\1.bn"),
    *LW_DETR_DECODER,
]  # fmt: skip


def write(path: Path, change: Change | None = None, variant: str = "one level") -> Any:
    model = random_model(VARIANTS[variant])
    named(model, "attention.q_proj")
    save(path, packed(official(model.state_dict(), NAMES), "attn"), ARGUMENTS, change)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "official.pth"
    model = write(path, variant=variant)
    assert family(path) == "Atten4Vis/LW-DETR"
    names, *rest = bridged(path, tmp_path / "hf")
    assert names == "names class_0 to class_3 (--class-names)"
    border = "nothing is proposed at the border of the image, which scores"
    assert [words.startswith(border) for words in rest] == [True] * (variant != "one level")
    adapter = computes_the_same(tmp_path / "hf", model, 1, 3, 128, 192)
    prepared = adapter.prepare(np.zeros((50, 75, 3), np.uint8))
    assert prepared.inputs["pixel_values"].shape == (1, 3, 640, 640)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    def average(content: dict[str, Any]) -> None:
        told = {"window_block_indexes": [0, 2], "out_feature_indexes": [1, 2]}
        content["args"] = argparse.Namespace(**told)
        content["ema_model"] = dict(content["model"])

    write(tmp_path / "official.pth", average)
    assert bridged(tmp_path / "official.pth", tmp_path / "hf", "model") == (
        "names class_0 to class_3 (--class-names)",
        "1 heads in each attention (--num-heads)",
        "2 heads in cross-attention (--set ca_nheads)",
        "boxes relative to the size of reference boxes",
        "images squeezed to 640 by 640 pixels",
        "100 detections of an image (--set num_select)",
        'the weights "model", where the repository evaluates their average (--weights ema_model)',
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("backbone.0.encoder.conv1.conv1_1.conv.weight", torch.ones(3)), "has a ResNet"),
        (put("transformer.decoder.bbox_embed.layers.0.bias", torch.ones(3)), "boxes refined by ea"),
        (renamed("transformer.enc_", "transformer.no_"), "has one stage"),
        (arguments(bbox_reparam=False), "bbox_reparam is False, which has no exact counterpart"),
        (arguments(square_resize_div_64=False), "square_resize_div_64 is False"),
        (arguments(out_feature_indexes=[2]), r"does not fit to the features of blocks \[2\]"),
        (arguments(window_block_indexes="0"), "window_block_indexes '0'; expected numbers from 0"),
        (no_arguments, "does not tell window_block_indexes and out_feature_indexes; .* 3 blocks"),
        (put("query_feat.weight", torch.ones(4000, 32)), "as 1600 places, of which it proposes 20"),
        (without(r"1\.attn\.q_bias"), r'1.attn.q_bias" is missing; ".*v_bias" is there'),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    write(tmp_path / "official.pth", change)
    refused(tmp_path / "official.pth", message)


def test_a_library_of_other_names_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LwDetrForObjectDetection

    def renamed(self: Any) -> None:
        made(self)
        self.model.vision = self.model.__dict__["_modules"].pop("backbone")

    write(tmp_path / "official.pth")
    made = LwDetrForObjectDetection.post_init
    monkeypatch.setattr(LwDetrForObjectDetection, "post_init", renamed)
    refused(tmp_path / "official.pth", "if the file is whole, take a newer transformers than")
