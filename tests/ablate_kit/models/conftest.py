"""Checkpoints as MMDetection's runner saves them, of small models, without MMDetection.

The names were read off the state dicts of MMDetection 3.3.0; tests marked ``mmdet`` hold this
against the framework itself.
"""

import importlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

WIDTH, HEADS, QUERIES, LEVELS, POINTS, HIDDEN, CLASSES = 32, 4, 6, 4, 2, 48, ("cat", "dog", "tv")
LAYERS = {"encoder": 1, "decoder": 3}
ONE_LEVEL = ("DETR", "ConditionalDETR", "DABDETR")
Shapes = Iterator[tuple[str, tuple[int, ...]]]

VARIANTS = {
    "detr": ("DETR", False, False),
    "conditional": ("ConditionalDETR", False, False),
    "dab": ("DABDETR", False, False),
    "deformable": ("DeformableDETR", False, False),
    "refine": ("DeformableDETR", True, False),
    "two-stage": ("DeformableDETR", True, True),
    "dino": ("DINO", True, True),
}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def norm(name: str, size: int = WIDTH) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def batch_norm(name: str, size: int) -> Shapes:
    yield from norm(name, size)
    yield f"{name}.running_mean", (size,)
    yield f"{name}.running_var", (size,)
    yield f"{name}.num_batches_tracked", ()


def resnet18(base: int) -> Shapes:
    yield "backbone.conv1.weight", (base, 3, 7, 7)
    yield from batch_norm("backbone.bn1", base)
    inputs = base
    for stage in range(4):
        size = base * 2**stage
        for block in range(2):
            name = f"backbone.layer{stage + 1}.{block}"
            yield f"{name}.conv1.weight", (size, inputs, 3, 3)
            yield from batch_norm(f"{name}.bn1", size)
            yield f"{name}.conv2.weight", (size, size, 3, 3)
            yield from batch_norm(f"{name}.bn2", size)
            if size != inputs:
                yield f"{name}.downsample.0.weight", (size, inputs, 1, 1)
                yield from batch_norm(f"{name}.downsample.1", size)
            inputs = size


def packed(name: str) -> Shapes:
    yield f"{name}.attn.in_proj_weight", (3 * WIDTH, WIDTH)
    yield f"{name}.attn.in_proj_bias", (3 * WIDTH,)
    yield from linear(f"{name}.attn.out_proj", WIDTH, WIDTH)


def deformable(name: str) -> Shapes:
    yield from linear(f"{name}.sampling_offsets", WIDTH, HEADS * LEVELS * POINTS * 2)
    yield from linear(f"{name}.attention_weights", WIDTH, HEADS * LEVELS * POINTS)
    yield from linear(f"{name}.value_proj", WIDTH, WIDTH)
    yield from linear(f"{name}.output_proj", WIDTH, WIDTH)


def conditional(name: str, *others: str) -> Shapes:
    for one in ("qcontent", "kcontent", "kpos", "v", *others):
        yield from linear(f"{name}.{one}_proj", WIDTH, WIDTH)
    yield from linear(f"{name}.out_proj", WIDTH, WIDTH)


def transformer(kind: str) -> Shapes:
    attention = packed if kind in ONE_LEVEL else deformable
    for part, count in LAYERS.items():
        for i in range(count):
            name = f"{part}.layers.{i}"
            if part == "decoder" and kind in ("ConditionalDETR", "DABDETR"):
                yield from conditional(f"{name}.self_attn", "qpos")
                first = () if i else ("qpos",)
                yield from conditional(f"{name}.cross_attn", "qpos_sine", *first)
            elif part == "decoder":
                yield from packed(f"{name}.self_attn")
                yield from attention(f"{name}.cross_attn")
            else:
                yield from attention(f"{name}.self_attn")
            if kind == "DABDETR":
                yield f"{name}.ffn.layers.0.1.weight", (1,)
            yield from linear(f"{name}.ffn.layers.0.0", WIDTH, HIDDEN)
            yield from linear(f"{name}.ffn.layers.1", HIDDEN, WIDTH)
            for k in range(2 if part == "encoder" else 3):
                yield from norm(f"{name}.norms.{k}")


def mlp(name: str, *sizes: int) -> Shapes:
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        yield from linear(f"{name}.layers.{i}", inputs, outputs)


def detr(kind: str) -> Shapes:
    dab = kind == "DABDETR"
    yield from resnet18(8)
    yield "neck.convs.0.conv.weight", (WIDTH, 64, 1, 1)
    yield "neck.convs.0.conv.bias", (WIDTH,)
    yield from linear("bbox_head.fc_cls", WIDTH, len(CLASSES) + (kind == "DETR"))
    if dab:
        yield from mlp("bbox_head.fc_reg", WIDTH, WIDTH, WIDTH, 4)
        yield from mlp("encoder.query_scale", WIDTH, WIDTH, WIDTH)
        yield from mlp("decoder.ref_anchor_head", WIDTH, WIDTH, 2)
        yield "patterns.weight", (2, WIDTH)
    else:
        yield from linear("bbox_head.reg_ffn.layers.0.0", WIDTH, WIDTH)
        yield from linear("bbox_head.reg_ffn.layers.1", WIDTH, WIDTH)
        yield from linear("bbox_head.fc_reg", WIDTH, 4)
    if kind != "DETR":
        yield from mlp("decoder.query_scale", WIDTH, WIDTH, WIDTH)
        sizes = (2 * WIDTH, WIDTH, WIDTH) if dab else (WIDTH, WIDTH, 2)
        yield from mlp("decoder.ref_point_head", *sizes)
    yield from transformer(kind)
    yield from norm("decoder.post_norm")
    yield "query_embedding.weight", (QUERIES, 4 if dab else WIDTH)


def deformable_detr(two_stage: bool, dino: bool = False) -> Shapes:
    yield "level_embed", (LEVELS, WIDTH)
    yield from resnet18(8)
    for i, size in enumerate((16, 32, 64)):
        yield f"neck.convs.{i}.conv.weight", (WIDTH, size, 1, 1)
        yield from norm(f"neck.convs.{i}.gn")
    yield "neck.extra_convs.0.conv.weight", (WIDTH, 64, 3, 3)
    yield from norm("neck.extra_convs.0.gn")
    for i in range(LAYERS["decoder"] + two_stage):
        yield from linear(f"bbox_head.cls_branches.{i}", WIDTH, len(CLASSES))
    for i in range(LAYERS["decoder"] + two_stage):
        for k, outputs in ((0, WIDTH), (2, WIDTH), (4, 4)):
            yield from linear(f"bbox_head.reg_branches.{i}.{k}", WIDTH, outputs)
    yield from transformer("DINO" if dino else "DeformableDETR")
    if two_stage:
        yield from linear("memory_trans_fc", WIDTH, WIDTH)
        yield from norm("memory_trans_norm")
    if dino:
        yield "query_embedding.weight", (QUERIES, WIDTH)
        yield "dn_query_generator.label_embedding.weight", (len(CLASSES), WIDTH)
        yield from linear("decoder.ref_point_head.layers.0", 2 * WIDTH, WIDTH)
        yield from linear("decoder.ref_point_head.layers.1", WIDTH, WIDTH)
        yield from norm("decoder.norm")
    elif two_stage:
        yield from linear("pos_trans_fc", 2 * WIDTH, 2 * WIDTH)
        yield from norm("pos_trans_norm", 2 * WIDTH)
    else:
        yield "query_embedding.weight", (QUERIES, 2 * WIDTH)
        yield from linear("reference_points_fc", WIDTH, 2)


def model_config(variant: str) -> dict[str, Any]:
    """As MMDetection's own configuration of the model, but small."""
    kind, refine, two_stage = VARIANTS[variant]
    sampling, sigmoid = kind not in ONE_LEVEL, kind != "DETR"
    packed_cfg = {"embed_dims": WIDTH, "num_heads": HEADS, "dropout": 0.1, "batch_first": True}
    attention = {"embed_dims": WIDTH, "num_heads": HEADS, "num_points": POINTS, "batch_first": True}
    ffn = {"embed_dims": WIDTH, "feedforward_channels": HIDDEN, "ffn_drop": 0.1}
    attention = attention if sampling else packed_cfg
    model: dict[str, Any] = {
        "type": kind,
        "num_queries": QUERIES,
        "data_preprocessor": {
            "type": "DetDataPreprocessor", "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True, "pad_size_divisor": 1,
        },
        "backbone": {
            "type": "ResNet", "depth": 18, "base_channels": 8, "num_stages": 4,
            "out_indices": (1, 2, 3) if sampling else (3,), "frozen_stages": 1,
            "norm_cfg": {"type": "BN", "requires_grad": False}, "norm_eval": True,
            "style": "pytorch",
            "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"},
        },
        "neck": {
            "type": "ChannelMapper", "in_channels": [16, 32, 64] if sampling else [64],
            "kernel_size": 1, "out_channels": WIDTH, "act_cfg": None,
            "norm_cfg": {"type": "GN", "num_groups": 32} if sampling else None,
            "num_outs": LEVELS if sampling else 1,
        },
        "encoder": {
            "num_layers": LAYERS["encoder"],
            "layer_cfg": {"self_attn_cfg": attention, "ffn_cfg": ffn},
        },
        "decoder": {
            "num_layers": LAYERS["decoder"],
            "layer_cfg": {
                "self_attn_cfg": packed_cfg, "cross_attn_cfg": attention, "ffn_cfg": ffn
            },
            "return_intermediate": True,
        },
        "positional_encoding": {"num_feats": WIDTH // 2, "normalize": True},
        "bbox_head": {
            "type": f"{kind}Head", "num_classes": len(CLASSES), "embed_dims": WIDTH,
            "loss_cls": {"type": "FocalLoss", "use_sigmoid": sigmoid},
        },
        "test_cfg": {"max_per_img": 100},
    }  # fmt: skip
    if kind in ("ConditionalDETR", "DABDETR"):
        shared = {"embed_dims": WIDTH, "num_heads": HEADS, "attn_drop": 0.1}
        model["decoder"]["layer_cfg"] |= {
            "self_attn_cfg": shared | {"cross_attn": False},
            "cross_attn_cfg": shared | {"cross_attn": True},
        }
    if kind == "DABDETR":
        model |= {"with_random_refpoints": False, "num_patterns": 2}
        model["decoder"] |= {
            "query_dim": 4, "query_scale_type": "cond_elewise", "with_modulated_hw_attn": True
        }  # fmt: skip
        model["positional_encoding"]["temperature"] = 20
        ffn["act_cfg"] = {"type": "PReLU"}
    if sampling:
        model |= {"with_box_refine": refine, "as_two_stage": two_stage}
        model["num_feature_levels"] = LEVELS
        model["decoder"]["post_norm_cfg"] = None
        model["positional_encoding"]["offset"] = -0.5
    if kind == "DINO":
        model["positional_encoding"] |= {"offset": 0.0, "temperature": 20}
        model["dn_cfg"] = {"label_noise_scale": 0.5, "box_noise_scale": 1.0}
    return model


PIPELINE = [
    {"type": "LoadImageFromFile", "backend_args": None},
    {"type": "Resize", "scale": (160, 96), "keep_ratio": True},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "img_shape", "scale_factor")},
]


def state_dict(variant: str) -> dict[str, torch.Tensor]:
    """Random weights, none of them zero; heads that the model shares are one tensor."""
    kind, refine, two_stage = VARIANTS[variant]
    generator = torch.Generator().manual_seed(3)
    state = {
        name: torch.rand(shape, generator=generator) + 0.5
        for name, shape in (
            detr(kind) if kind in ONE_LEVEL else deformable_detr(two_stage, kind == "DINO")
        )
    }
    if kind == "DeformableDETR" and not refine:
        for name in state:
            if "_branches." in name:
                levels = name.split(".")
                state[name] = state[".".join((*levels[:2], "0", *levels[3:]))]
    return state


@pytest.fixture
def mmdetection(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint of a variant; ``change`` may alter its content before."""

    def write(variant: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
        model = model_config(variant)
        content = {
            "meta": {
                "cfg": {"model": model, "test_pipeline": PIPELINE},
                "dataset_meta": {"classes": CLASSES},
                "epoch": 1,
            },
            "state_dict": state_dict(variant),
        }
        change(content)
        meta = content["meta"]
        if isinstance(meta.get("cfg"), dict):
            meta["cfg"] = "\n".join(f"{name} = {value!r}" for name, value in meta["cfg"].items())
        path = tmp_path / f"{variant}.pth"
        torch.save(content, path)
        return path

    return write


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Iterator[Callable[[str], ModuleType]]:
    """A module of ``benchmarks``, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "benchmarks")
        yield importlib.import_module
