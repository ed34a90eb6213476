"""Files of official repositories become Hugging Face folders that compute the same.

The files are made backwards: a small model of transformers gets random weights, which are saved
under the official names, written down here a second time. What the official code itself computes,
``benchmarks/official.py`` compares.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.official.families import family_of
from ablate_kit.models.classes import ClassNames
from ablate_kit.models.open import open_adapter
from ablate_kit.models.rewrite import bridge

WIDTH, HEADS, QUERIES, OUTPUTS = 32, 4, 7, 5
COMMON = {
    "use_timm_backbone": False,
    "backbone_config": {
        "model_type": "resnet",
        "embedding_size": 4,
        "hidden_sizes": [16, 32, 64, 128],
        "depths": [1, 2, 1, 1],
        "layer_type": "bottleneck",
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 40,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "num_queries": QUERIES,
    "num_labels": OUTPUTS,
}
DEFORMABLE = {"model_type": "deformable_detr", "encoder_n_points": 2, "decoder_n_points": 3}
ONE_LEVEL = COMMON["backbone_config"] | {"out_features": ["stage4"]}  # type: ignore[operator]
MODELS: dict[str, dict[str, Any]] = {
    "detr": {"model_type": "detr", "backbone_config": ONE_LEVEL},
    "conditional": {"model_type": "conditional_detr", "backbone_config": ONE_LEVEL},
    "dab": {
        "model_type": "dab-detr",
        "backbone_config": ONE_LEVEL,
        "hidden_size": WIDTH,
        "num_patterns": 2,
        "temperature_height": 10,
    },
    "deformable": {**DEFORMABLE, "num_feature_levels": 4},
    "one level": {**DEFORMABLE, "num_feature_levels": 1, "backbone_config": ONE_LEVEL},
    "refined": {**DEFORMABLE, "num_feature_levels": 4, "with_box_refine": True},
    "two stages": {
        **DEFORMABLE,
        "num_feature_levels": 3,
        "with_box_refine": True,
        "two_stage": True,
        "two_stage_num_proposals": QUERIES,
    },
}
Change = Callable[[dict[str, Any]], None]

RESNET = r"model\.backbone\.conv_encoder\.model\.encoder\.stages\.(\d)\.layers\.(\d)\."
EMBEDDER = "model.backbone.conv_encoder.model.embedder.embedder."
NORMS = {
    "detr": {"self_attn": "norm1", "encoder_attn": "norm2"},
    "conditional_detr": {"self_attn": "norm1", "encoder_attn": "norm2"},
    "deformable_detr": {"self_attn": "norm2", "encoder_attn": "norm1"},
}


def official(name: str, kind: str) -> str:
    """The official name of a tensor of transformers' model."""
    if kind == "dab-detr" and (found := re.match(r"model\.decoder\.layers\.\d\.", name)):
        rest = name[found.end() :]
        for short, attention in (("sa", "self_attn"), ("ca", "cross_attn")):
            rest = rest.replace(f"{attention}.{attention}.output_proj", f"{attention}.out_proj")
            rest = rest.replace(f"{attention}.{attention}_layer_norm", f"norm{1 + (short == 'ca')}")
            rest = rest.replace(f"{attention}.{attention}_", f"{short}_")
        for ours, theirs in {
            "_query_content": "_qcontent",
            "_query_pos": "_qpos",
            "_key_content": "_kcontent",
            "_key_pos": "_kpos",
            "_value": "_v",
            "mlp.final_layer_norm": "norm3",
            "mlp.fc": "linear",
            "mlp.activation_fn": "activation",
        }.items():
            rest = rest.replace(ours, theirs)
        return f"transformer.{found[0].removeprefix('model.')}{rest}"
    name = name.replace("activation_fn", "activation")
    name = name.replace(f"{EMBEDDER}convolution", "backbone.0.body.conv1")
    name = name.replace(f"{EMBEDDER}normalization", "backbone.0.body.bn1")
    if found := re.match(RESNET + r"(?:layer\.(\d)|(shortcut))\.(convolution|normalization)", name):
        stage, block, inner, shortcut, part = found.groups()
        if shortcut:
            there = "downsample.0" if part == "convolution" else "downsample.1"
        else:
            there = f"{'conv' if part == 'convolution' else 'bn'}{int(inner) + 1}"
        begin = f"backbone.0.body.layer{int(stage) + 1}.{block}.{there}"
        return begin + name[found.end() :]
    name = re.sub(r"^model\.(encoder|decoder)\.layers", r"transformer.\1.layers", name)
    if name.startswith("transformer."):
        decoder = name.startswith("transformer.decoder")
        norms = NORMS[kind] if decoder else {"self_attn": "norm1"}
        for attention, norm in norms.items():
            name = name.replace(f"{attention}_layer_norm", norm)
        name = name.replace("final_layer_norm", "norm3" if decoder else "norm2")
        name = name.replace("fc1", "linear1").replace("fc2", "linear2")
        cross = "multihead_attn" if kind == "detr" else "cross_attn"
        return name.replace("encoder_attn", cross)
    for ours, theirs in {
        "model.decoder.layernorm": "transformer.decoder.norm",
        "class_embed": "class_embed",
        "model.query_refpoint_embeddings": "refpoint_embed",
        "model.decoder.query_scale": "transformer.decoder.query_scale",
        "model.decoder.ref_point_head": "transformer.decoder.ref_point_head",
        "model.input_projection": "input_proj",
        "model.input_proj": "input_proj",
        "model.query_position_embeddings": "query_embed",
        "class_labels_classifier": "class_embed",
        "bbox_predictor": "bbox_embed",
        "model.decoder.class_embed": "class_embed",
        "model.decoder.bbox_embed": "bbox_embed",
        "model.level_embed": "transformer.level_embed",
    }.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name.replace("model.", "transformer.", 1)


def model_of(variant: str) -> Any:
    """A model with weights at random everywhere."""
    from transformers import AutoConfig, AutoModelForObjectDetection

    config = AutoConfig.for_model(**(COMMON | MODELS[variant]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForObjectDetection.from_config(config).eval()
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape)
                tensor.copy_(1 + drawn.abs() if name.endswith("_var") else drawn / 8)
    return model


def saved(model: Any) -> dict[str, Tensor]:
    """Its tensors as the official repository has them."""
    kind = model.config.model_type
    with TemporaryDirectory() as folder:  # the names in a file are not those of the modules
        model.save_pretrained(folder)
        state = load_file(Path(folder) / "model.safetensors")
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".self_attn.q_proj." in name or ".encoder_attn.q_proj." in name:
            parts = [state[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            new = official(name, kind).replace(".q_proj.", ".in_proj_")
            found[new] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[official(name, kind)] = tensor
    if kind == "dab-detr":
        heads = {name: tensor for name, tensor in found.items() if name.startswith("bbox_embed.")}
        found = {f"transformer.decoder.{name}": tensor for name, tensor in heads.items()} | found
    if kind == "deformable_detr":
        refine = model.config.with_box_refine
        # One head for all layers has a name for each; a head of each layer has two names.
        for name, tensor in list(found.items()):
            if name.startswith(("class_embed.", "bbox_embed.")):
                head, _, rest = name.partition(".")
                number, _, rest = rest.partition(".")
                if not refine:
                    found |= {f"{head}.{n}.{rest}": tensor for n in range(3)}
                elif head == "bbox_embed" or model.config.two_stage:
                    found[f"transformer.decoder.{head}.{number}.{rest}"] = tensor
    counters = [name for name in found if name.endswith("running_mean")]
    for name in counters:
        found[name.replace("running_mean", "num_batches_tracked")] = torch.zeros(
            (), dtype=torch.int64
        )
    return found


def write(path: Path, variant: str, change: Change | None = None) -> Any:
    model = model_of(variant)
    arguments = argparse.Namespace(
        nheads=HEADS,
        dilation=False,
        pre_norm=False,
        num_queries=QUERIES,
        position_embedding_scale=2 * torch.pi,
        pe_temperatureH=10,
        pe_temperatureW=20,
    )
    content = {"model": saved(model), "args": arguments, "epoch": 3}
    if change:
        change(content)
    torch.save(content, path)
    return model


def bridged(path: Path, folder: Path, **told: Any) -> Path:
    with open_checkpoint(path) as checkpoint:
        bridge(checkpoint, folder, **told)
    return folder


@pytest.mark.parametrize("variant", MODELS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "official.pth", variant)
    folder = bridged(tmp_path / "official.pth", tmp_path / "hf")
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with open_checkpoint(folder) as checkpoint, torch.no_grad():
        adapter = open_adapter(checkpoint)
        ours, theirs = adapter.forward({"pixel_values": image}), model(pixel_values=image)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.pred_boxes, theirs.pred_boxes)
    assert adapter.classes == tuple(f"class_{i}" for i in range(OUTPUTS))
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 800, "longest_edge": 1333}


def arguments(**values: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["args"] = argparse.Namespace(**{**vars(content["args"]), **values})

    return change


def renamed(old: str, new: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["model"] = {
            name.replace(old, new): tensor for name, tensor in content["model"].items()
        }

    return change


def without(name: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        del content["model"][name]

    return change


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("detr", arguments(dilation=True), "dilation is True, which has no exact counterpart"),
        ("detr", arguments(pre_norm=True), "pre_norm is True"),
        ("detr", arguments(nheads="8"), "the file says nheads '8'; expected a positive number"),
        ("detr", without("input_proj.bias"), '"input_proj.bias" is missing; "input_proj.weight"'),
        ("detr", arguments(nheads=5), "5 heads do not divide 32 channels"),
        ("deformable", arguments(position_embedding_scale=1.0), "position_embedding_scale is 1.0"),
        ("detr", renamed("decoder.norm.", "mask_head."), "mask_head.bias\" has no place"),
        ("detr", renamed("layer2.1", "layer2.3"), r"backbone.0.body.layer2 \[0, 3\]"),
        ("two stages", renamed("decoder.bbox_embed", "bbox"), "two stages without box refinement"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, variant: str, change: Change, message: str
) -> None:
    write(tmp_path / "official.pth", variant, change)
    with pytest.raises(UserError, match=message):
        bridged(tmp_path / "official.pth", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def no_arguments(content: dict[str, Any]) -> None:
    del content["args"]


def names(*given: str) -> ClassNames:
    return ClassNames(given, by_id=False)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "two stages", no_arguments)
    with open_checkpoint(tmp_path / "official.pth") as checkpoint:
        done = bridge(
            checkpoint, tmp_path / "hf", heads=HEADS, classes=names("a", "b", "c", "d", "e")
        )
        assert done.model.assumed == (
            "no dilation in the backbone",
            "position encodings scaled by 2 pi",
            "300 queries",
        )
        with pytest.raises(UserError, match=r"2 class names for .* which has 5 classes"):
            bridge(checkpoint, tmp_path / "other", heads=HEADS, classes=names("a", "b"))
    with open_checkpoint(tmp_path / "hf") as checkpoint:
        assert open_adapter(checkpoint).classes == ("a", "b", "c", "d", "e")


def test_heads_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "detr")
    with pytest.raises(UserError, match="the file says nheads 4, and --num-heads 8"):
        bridged(tmp_path / "official.pth", tmp_path / "hf", heads=8)


def ablate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablate_kit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(tmp_path: Path) -> None:
    path, folder, annotations = tmp_path / "detr.pth", tmp_path / "hf", tmp_path / "train.json"
    write(path, "detr", no_arguments)
    categories = [{"id": 3, "name": "horse"}, {"id": 1, "name": "cat"}]
    annotations.write_text(json.dumps({"images": [], "categories": categories}))
    told = ("--num-heads", HEADS, "--class-names", annotations)
    run = ablate("convert", path, "--to", "transformers", "-o", folder, *told)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1] == (
        "assumed, as the file does not tell: no dilation in the backbone; norms after each branch"
    )
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["N/A", "cat", "N/A", "horse", "N/A"]
    again = ablate("apply", path, folder / "convert.json", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    for one in folder.iterdir():
        assert one.read_bytes() == (tmp_path / "again" / one.name).read_bytes()
    # Opened as it is, the error says what to do.
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    run = ablate("predict", path, tmp_path / "image.png", "-o", tmp_path / "seen")
    assert run.returncode == 2
    assert "is a file of facebookresearch/detr; ablate convert" in run.stderr


def test_a_detector_inside_a_larger_model_is_pointed_at(tmp_path: Path) -> None:
    def inside(content: dict[str, Any]) -> None:
        content["model"] = {f"detr.{name}": tensor for name, tensor in content["model"].items()}

    write(tmp_path / "official.pth", "detr", inside)
    with pytest.raises(UserError, match=r'begin with "detr\."; give --weights "model\.detr"'):
        bridged(tmp_path / "official.pth", tmp_path / "hf")


def test_only_its_own_repository_recognizes_a_file(tmp_path: Path) -> None:
    for variant in ("detr", "two stages"):
        write(tmp_path / f"{variant}.pth", variant)
    found = []
    for variant in ("detr", "two stages"):
        with open_checkpoint(tmp_path / f"{variant}.pth") as checkpoint:
            found.append(family_of(checkpoint))
    assert found == ["facebookresearch/detr", "fundamentalvision/Deformable-DETR"]
