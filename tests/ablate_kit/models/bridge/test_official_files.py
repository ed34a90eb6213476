"""Files of DETR's repository and of those made from its code become Hugging Face folders that
compute the same. What the official code itself computes, ``benchmarks/official.py`` compares.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ablate_kit.models.labels.classes import ClassNames
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.small_sweeps import adapter_of

from .official_files import (
    Change,
    Renaming,
    arguments,
    bridged,
    computes_the_same,
    family,
    in_file,
    no_arguments,
    official,
    put,
    random_model,
    refused,
    renamed,
    save,
    without,
)

WIDTH, HEADS, QUERIES, OUTPUTS = 32, 4, 7, 5
COMMON = {
    "use_timm_backbone": False,
    "backbone_config": {
        "model_type": "resnet", "embedding_size": 4, "hidden_sizes": [16, 32, 64, 128],
        "depths": [1, 2, 1, 1], "layer_type": "bottleneck",
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
}  # fmt: skip
DEFORMABLE = {"model_type": "deformable_detr", "encoder_n_points": 2, "decoder_n_points": 3}
ONE_LEVEL = COMMON["backbone_config"] | {"out_features": ["stage4"]}
MODELS: dict[str, dict[str, Any]] = {
    "detr": {"model_type": "detr", "backbone_config": ONE_LEVEL},
    "conditional": {"model_type": "conditional_detr", "backbone_config": ONE_LEVEL},
    "dab": {
        "model_type": "dab-detr", "backbone_config": ONE_LEVEL, "hidden_size": WIDTH,
        "num_patterns": 2, "temperature_height": 10,
    },
    "deformable": {**DEFORMABLE, "num_feature_levels": 4},
    "one level": {**DEFORMABLE, "num_feature_levels": 1, "backbone_config": ONE_LEVEL},
    "refined": {**DEFORMABLE, "num_feature_levels": 4, "with_box_refine": True},
    "two stages": {
        **DEFORMABLE, "num_feature_levels": 3, "with_box_refine": True, "two_stage": True,
        "two_stage_num_proposals": QUERIES,
    },
}  # fmt: skip

STAGE = r"^model\.backbone\.conv_encoder\.model\.encoder\.stages\.(\d)\.layers"
RESNET: list[Renaming] = [
    (r"^model\.backbone.*\.embedder\.convolution", "backbone.0.body.conv1"),
    (r"^model\.backbone.*\.embedder\.normalization", "backbone.0.body.bn1"),
    (STAGE, lambda found: f"backbone.0.body.layer{int(found[1]) + 1}"),
    (r"\.shortcut\.convolution", ".downsample.0"),
    (r"\.shortcut\.normalization", ".downsample.1"),
    (r"layer\.(\d)\.convolution", lambda found: f"conv{int(found[1]) + 1}"),
    (r"layer\.(\d)\.normalization", lambda found: f"bn{int(found[1]) + 1}"),
]
NAMES: list[Renaming] = [
    *RESNET,
    (r"^model\.(encoder|decoder)\.layers", r"transformer.\1.layers"),
    (r"(transformer\.encoder.*)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(transformer\.encoder.*)\.final_layer_norm", r"\1.norm2"),
    (r"(transformer\.decoder.*)\.final_layer_norm", r"\1.norm3"),
    (r"^(transformer.*)\.fc(\d)", r"\1.linear\2"),
    ("activation_fn", "activation"),
    (r"^model\.decoder\.layernorm", "transformer.decoder.norm"),
    (r"^model\.input_proj(ection)?", "input_proj"),
    (r"^model\.query_position_embeddings", "query_embed"),
    (r"^model\.query_refpoint_embeddings", "refpoint_embed"),
    ("^class_labels_classifier", "class_embed"),
    ("^bbox_predictor", "bbox_embed"),
    (r"^model\.decoder\.(class|bbox)_embed", r"\1_embed"),
    (r"^model\.", "transformer."),
]
ONE_AFTER_THE_OTHER: list[Renaming] = [
    (r"decoder(.*)\.self_attn_layer_norm", r"decoder\1.norm1"),
    (r"decoder(.*)\.encoder_attn_layer_norm", r"decoder\1.norm2"),
]
DECODER: dict[str, list[Renaming]] = {
    "detr": [*ONE_AFTER_THE_OTHER, ("encoder_attn", "multihead_attn")],
    "conditional_detr": [*ONE_AFTER_THE_OTHER, ("encoder_attn", "cross_attn")],
    "deformable_detr": [
        (r"decoder(.*)\.self_attn_layer_norm", r"decoder\1.norm2"),
        (r"decoder(.*)\.encoder_attn_layer_norm", r"decoder\1.norm1"),
        ("encoder_attn", "cross_attn"),
    ],
    "dab-detr": [
        (r"(self|cross)_attn\.\1_attn\.output_proj", r"\1_attn.out_proj"),
        (r"self_attn\.self_attn_layer_norm", "norm1"),
        (r"cross_attn\.cross_attn_layer_norm", "norm2"),
        (r"(s|c)\w+_attn\.\w+_attn_(query|key|value)", r"\1a_\2"),
        ("query_content", "qcontent"),
        ("query_pos(?!ition)", "qpos"),
        ("key_content", "kcontent"),
        ("key_pos", "kpos"),
        ("value_proj", "v_proj"),
        (r"mlp\.final_layer_norm", "norm3"),
        (r"mlp\.fc", "linear"),
        (r"mlp\.activation", "activation"),
    ],
}


def saved(model: Any) -> dict[str, Tensor]:
    """Its tensors as the official repository has them."""
    kind = model.config.model_type
    found = official(in_file(model), [*DECODER[kind], *NAMES])
    heads = [name for name in found if name.startswith(("class_embed.", "bbox_embed."))]
    for name in heads:
        tensor, head = found[name], name.partition(".")[0]
        if kind == "dab-detr" and head == "bbox_embed":
            found = {f"transformer.decoder.{name}": tensor} | found
        if kind == "deformable_detr":
            # One head for all layers has a name for each; a head of each layer has two names.
            if not model.config.with_box_refine:
                found |= {name.replace(".0.", f".{n}.", 1): tensor for n in range(3)}
            elif head == "bbox_embed" or model.config.two_stage:
                found[f"transformer.decoder.{name}"] = tensor
    for name in [name for name in found if name.endswith("running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        found[counter] = torch.zeros((), dtype=torch.int64)
    return found


def write(path: Path, variant: str, change: Change | None = None) -> Any:
    model = random_model(COMMON | MODELS[variant])
    told = {
        "nheads": HEADS,
        "dilation": False,
        "pre_norm": False,
        "num_queries": QUERIES,
        "position_embedding_scale": 2 * torch.pi,
        "pe_temperatureH": 10,
        "pe_temperatureW": 20,
    }
    save(path, saved(model), told, change)
    return model


@pytest.mark.parametrize("variant", MODELS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "official.pth", variant)
    bridged(tmp_path / "official.pth", tmp_path / "hf")
    adapter = computes_the_same(tmp_path / "hf", model, 1, 3, 64, 96)
    assert adapter.classes == tuple(f"class_{i}" for i in range(OUTPUTS))
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 800, "longest_edge": 1333}


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
        ("dab", put("label_enc.weight", torch.zeros(6, 31)), "made of IDEA-Research/DAB-DETR"),
        ("two stages", put("query_embed.weight", torch.zeros(7, 32)), "code that was made of"),
        ("detr", renamed("layer2.1", "layer2.3"), r"backbone.0.body.layer2 \[0, 3\]"),
        ("two stages", renamed("decoder.bbox_embed", "bbox"), "two stages without box refinement"),
        # The same tensors as in the official repository, of code that computes something else.
        ("refined", arguments(use_ms_detr=True), "use_ms_detr is True, as of MS-DETR"),
        ("deformable", arguments(num_queries_one2many=1500), "num_queries_one2many is 1500"),
        ("conditional", arguments(group_detr=11), "group_detr is 11, as of Group DETR"),
        ("deformable", arguments(assign_second_stage=True), "assign_second_stage is True"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, variant: str, change: Change, message: str
) -> None:
    write(tmp_path / "official.pth", variant, change)
    refused(tmp_path / "official.pth", message)


def test_arguments_that_the_official_script_lacks_are_said(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    official_ones = {"lr_drop": 40, "eos_coef": 0.1, "group_detr": 1, "use_ms_detr": False}
    write(path, "dab", arguments(**official_ones, unused=None, q_teams=[1, 2], q_split="x"))
    said = "that q_split, q_teams change nothing, which are no arguments of the official script"
    assert said in bridged(path, tmp_path / "hf")


def test_what_counting_flops_leaves_is_dropped(tmp_path: Path) -> None:
    def counted(content: dict[str, Any]) -> None:
        counts = ("total_ops", "transformer.decoder.total_params")
        content["model"] |= dict.fromkeys(counts, torch.zeros(1, dtype=torch.float64))

    model = write(tmp_path / "official.pth", "detr", counted)
    bridged(tmp_path / "official.pth", tmp_path / "hf")
    computes_the_same(tmp_path / "hf", model, 1, 3, 64, 96)


def names(*given: str) -> ClassNames:
    return ClassNames(given, by_id=False)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    write(path, "two stages", no_arguments)
    classes = ("a", "b", "c", "d", "e")
    assert bridged(path, tmp_path / "hf", heads=HEADS, classes=names(*classes)) == (
        "no dilation in the backbone",
        "position encodings scaled by 2 pi",
        "300 queries (--set num_queries)",
    )
    assert adapter_of(tmp_path / "hf").classes == classes
    message = r"2 class names for .* which has 5 classes"
    refused(path, message, heads=HEADS, classes=names("a", "b"))


def test_heads_that_contradict_the_file_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "detr")
    refused(tmp_path / "official.pth", "the file says nheads 4, and --num-heads 8", heads=8)


def test_the_command(run: Run, tmp_path: Path) -> None:
    path, folder, annotations = tmp_path / "detr.pth", tmp_path / "hf", tmp_path / "train.json"
    write(path, "detr", no_arguments)
    categories = [{"id": 3, "name": "horse"}, {"id": 1, "name": "cat"}]
    annotations.write_text(json.dumps({"images": [], "categories": categories}))
    told = ("--num-heads", HEADS, "--class-names", annotations)
    printed = run("convert", path, "--to", "transformers", "-o", folder, *told)
    assert printed.splitlines()[1] == (
        "assumed, as the file does not tell: no dilation in the backbone; norms after each branch"
    )
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["N/A", "cat", "N/A", "horse", "N/A"]
    run("apply", path, folder / "convert.json", "-o", tmp_path / "again")
    for one in folder.iterdir():
        assert one.read_bytes() == (tmp_path / "again" / one.name).read_bytes()


def test_a_detector_inside_a_larger_model_is_pointed_at(tmp_path: Path) -> None:
    def inside(content: dict[str, Any]) -> None:
        content["model"] = {f"detr.{name}": tensor for name, tensor in content["model"].items()}

    write(tmp_path / "official.pth", "detr", inside)
    message = r'begin with "detr\."; give --weights "model\.detr"'
    refused(tmp_path / "official.pth", message)


def test_only_its_own_repository_recognizes_a_file(tmp_path: Path) -> None:
    repositories = {
        "detr": "facebookresearch/detr",
        "two stages": "fundamentalvision/Deformable-DETR",
    }
    for variant, repository in repositories.items():
        write(tmp_path / f"{variant}.pth", variant)
        assert family(tmp_path / f"{variant}.pth") == repository
