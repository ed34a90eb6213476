"""DINO as detrex saves it: with Detectron2's backbones and the names of MMCV's layers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ablate_kit.models.bridge.official.told_by_file import COCO_IN_ORDER
from tests.ablate_kit.models.architectures.test_dino import SIZE, VARIANTS, random_dino

from .official_files import (
    Change,
    Renaming,
    bridged,
    computes_the_same,
    family,
    in_file,
    official,
    put,
    refused,
    without,
)
from .test_official_files import HEADS, OUTPUTS, QUERIES, WIDTH

DEFAULTS = {
    "share_class_embed": False,
    "share_bbox_embed": False,
    "position_temperature_height": 10000,
    "position_temperature_width": 10000,
    "position_offset": -0.5,
}
KINDS = ("a head per layer", "contents of the encoder", "Swin", "all levels of the backbone")


def names(handed_on: int) -> list[Renaming]:
    def neck(match: re.Match[str]) -> str:
        n = int(match[1])
        part = f"convs.{n}" if n < handed_on else f"extra_convs.{n - handed_on}"
        return f"neck.{part}.{'norm' if match[2] == '1' else 'conv'}."

    return [
        (r"^model\.backbone\.conv_encoder\.model\.", "backbone."),
        (r"embedder\.embedder\.", "stem.conv1."),
        # Stages and convolutions are counted from others on.
        (r"encoder\.stages\.(\d)\.layers\.", lambda found: f"res{int(found[1]) + 2}."),
        (r"\.layer\.(\d)\.", lambda found: f".conv{int(found[1]) + 1}."),
        (r"\.convolution\.", "."),
        (r"\.normalization\.", ".norm."),
        (r"^model\.input_proj\.(\d)\.(\d)\.", neck),
        (r"^model\.", "transformer."),
        ("query_contents", "tgt_embed"),
        (r"level_embed$", "level_embeds"),
        (r"decoder\.layernorm", "decoder.norm"),
        (r"\.self_attn_layer_norm", ".norms.0"),
        (r"\.encoder_attn_layer_norm", ".norms.1"),
        (r"(encoder\.layers\.\d)\.final_layer_norm", r"\1.norms.1"),
        (r"(decoder\.layers\.\d)\.final_layer_norm", r"\1.norms.2"),
        (r"\.fc1\.", ".ffns.0.layers.0.0."),
        (r"\.fc2\.", ".ffns.0.layers.1."),
        (r"(encoder\.layers\.\d)\.self_attn\.", r"\1.attentions.0."),
        (r"(decoder\.layers\.\d)\.self_attn\.", r"\1.attentions.0.attn."),
        (r"\.encoder_attn\.", ".attentions.1."),
        (r"^enc_(class|bbox)_embed\.", r"\1_embed.3."),
    ]


def write(path: Path, variant: str = "a head per layer", change: Change | None = None) -> Any:
    model = random_dino(**{**VARIANTS[variant], **DEFAULTS})
    tensors = in_file(model)
    if variant == "Swin":  # whose blocks have such a layer, too
        tensors = {name.replace("mlp.fc", "mlp.of"): one for name, one in tensors.items()}
    handed_on = len(model.config.backbone_config.out_features)
    found = official(tensors, names(handed_on))
    found = {name.replace("mlp.of", "mlp.fc"): one for name, one in found.items()}
    heads: dict[str, Tensor] = {
        f"transformer.decoder.{name}": one
        for name, one in found.items()
        if name.startswith(("class_embed", "bbox_embed"))
    }
    index = {
        name.replace("bias_table", "index"): torch.zeros(9, 9, dtype=torch.int64)
        for name in found
        if name.endswith("relative_position_bias_table")
    }
    labels = {"label_enc.weight": torch.ones(OUTPUTS, WIDTH)}
    content = {"model": found | heads | index | labels, "iteration": 89999}
    if change:
        change(content)
    torch.save(content, path)
    return model


@pytest.mark.parametrize("variant", KINDS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "dino.pth", variant)
    assert family(tmp_path / "dino.pth") == "IDEA-Research/detrex"
    told = {} if model.config.learned_contents else {"arguments": {"num_queries": QUERIES}}
    assumed = bridged(tmp_path / "dino.pth", tmp_path / "hf", heads=HEADS, **told)
    assert ("strides in the convolutions" in "; ".join(assumed)) == (variant != "Swin")
    computes_the_same(tmp_path / "hf", model, *SIZE)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    write(tmp_path / "dino.pth", "contents of the encoder")
    assert bridged(tmp_path / "dino.pth", tmp_path / "hf", heads=HEADS) == (
        "strides in the convolutions of 3 by 3 (stride_in_1x1: False)",
        "positions of temperature 10000 and offset -0.5",
        "900 queries (--set num_queries)",
        "names class_0 to class_4 (--class-names)",
    )


def test_80_outputs_are_coco_s_classes_in_their_order(tmp_path: Path) -> None:
    def of_coco(content: dict[str, Any]) -> None:
        tensors = content["model"]
        for name in [name for name in tensors if "class_embed" in name]:
            tensors[name] = torch.ones(80, *tensors[name].shape[1:])

    write(tmp_path / "dino.pth", change=of_coco)
    bridged(tmp_path / "dino.pth", tmp_path / "hf", heads=HEADS)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert tuple(config["id2label"].values()) == COCO_IN_ORDER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("^backbone"), "no ResNet and no Swin of Detectron2"),
        (put("backbone.res2.0.conv2.weight", torch.ones(8, 2, 3, 3)), "ResNeXt"),
        (put("transformer.decoder.query_scale.layers.0.weight", torch.ones(2)), "has no place"),
        (without(r"neck\.convs\.1\.norm\.bias"), r'"neck.convs.1.norm.bias" is missing'),
        (without(r"^(transformer\.decoder\.)?class_embed\.3"), r"enc_class_embed"),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    write(tmp_path / "dino.pth", change=change)
    refused(tmp_path / "dino.pth", message, heads=HEADS)
