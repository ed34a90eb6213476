"""Checkpoints as MMDetection's runner saves them, of small models, without MMDetection.

The names were read off the state dicts of MMDetection 3.3.0; tests marked ``mmdet`` hold this
against the framework itself.
"""

import importlib
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
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
    "co-dino": ("CoDETR", True, True),
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


def neck() -> Shapes:
    for i, size in enumerate((16, 32, 64)):
        yield f"neck.convs.{i}.conv.weight", (WIDTH, size, 1, 1)
        yield from norm(f"neck.convs.{i}.gn")
    yield "neck.extra_convs.0.conv.weight", (WIDTH, 64, 3, 3)
    yield from norm("neck.extra_convs.0.gn")


def branches(place: str, count: int) -> Shapes:
    for i in range(count):
        yield from linear(f"{place}.cls_branches.{i}", WIDTH, len(CLASSES))
    for i in range(count):
        for k, outputs in ((0, WIDTH), (2, WIDTH), (4, 4)):
            yield from linear(f"{place}.reg_branches.{i}.{k}", WIDTH, outputs)


def co_dino() -> Shapes:
    yield from resnet18(8)
    yield from neck()
    place = "query_head.transformer"
    yield f"{place}.level_embeds", (LEVELS, WIDTH)
    for part, count in LAYERS.items():
        for i in range(count):
            name = f"{place}.{part}.layers.{i}"
            if part == "decoder":
                yield from packed(f"{name}.attentions.0")
            yield from deformable(f"{name}.attentions.{int(part == 'decoder')}")
            yield from linear(f"{name}.ffns.0.layers.0.0", WIDTH, HIDDEN)
            yield from linear(f"{name}.ffns.0.layers.1", HIDDEN, WIDTH)
            for k in range(2 if part == "encoder" else 3):
                yield from norm(f"{name}.norms.{k}")
    yield from linear(f"{place}.decoder.ref_point_head.0", 2 * WIDTH, WIDTH)
    yield from linear(f"{place}.decoder.ref_point_head.2", WIDTH, WIDTH)
    yield from norm(f"{place}.decoder.norm")
    yield from linear(f"{place}.enc_output", WIDTH, WIDTH)
    yield from norm(f"{place}.enc_output_norm")
    yield f"{place}.query_embed.weight", (QUERIES, WIDTH)
    yield from branches("query_head", LAYERS["decoder"] + 1)


def of_training() -> Shapes:
    """What Co-DINO has besides, for training alone."""
    yield from linear("query_head.transformer.aux_pos_trans.0", 2 * WIDTH, WIDTH)
    yield from norm("query_head.transformer.aux_pos_trans_norm.0")
    yield "query_head.downsample.0.weight", (WIDTH, WIDTH, 3, 3)
    yield from norm("query_head.downsample.1")
    yield "query_head.dn_generator.label_embedding.weight", (len(CLASSES), WIDTH)
    yield "rpn_head.rpn_conv.weight", (WIDTH, WIDTH, 3, 3)
    yield from linear("roi_head.0.bbox_head.fc_cls", WIDTH, len(CLASSES) + 1)
    yield "bbox_head.0.scales.0.scale", ()


def deformable_detr(two_stage: bool, dino: bool = False) -> Shapes:
    yield "level_embed", (LEVELS, WIDTH)
    yield from resnet18(8)
    yield from neck()
    yield from branches("bbox_head", LAYERS["decoder"] + two_stage)
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
    return co_dino_config(model) if kind == "CoDETR" else model


def co_dino_config(model: dict[str, Any]) -> dict[str, Any]:
    """With layers as MMDetection 2 says them, all in one head."""
    sampling = {"type": "MultiScaleDeformableAttention", "embed_dims": WIDTH, "num_heads": HEADS,
                "num_levels": LEVELS, "num_points": POINTS, "dropout": 0.0}  # fmt: skip
    ffn = {"feedforward_channels": HIDDEN, "ffn_dropout": 0.0}
    return {
        "type": "CoDETR", "use_lsj": False, "eval_module": "detr",
        **{key: model[key] for key in ("data_preprocessor", "backbone", "neck")},
        "query_head": {
            "type": "CoDINOHead", "num_query": QUERIES, "num_classes": len(CLASSES),
            "in_channels": 64, "as_two_stage": True, "dn_cfg": {"label_noise_scale": 0.5},
            "transformer": {
                "type": "CoDinoTransformer", "with_coord_feat": False, "num_co_heads": 2,
                "num_feature_levels": LEVELS,
                "encoder": {
                    "type": "DetrTransformerEncoder", "num_layers": LAYERS["encoder"], "with_cp": 4,
                    "transformerlayers": {
                        "type": "BaseTransformerLayer", "attn_cfgs": sampling, **ffn,
                        "operation_order": ("self_attn", "norm", "ffn", "norm"),
                    },
                },
                "decoder": {
                    "type": "DinoTransformerDecoder", "num_layers": LAYERS["decoder"],
                    "return_intermediate": True,
                    "transformerlayers": {
                        "type": "DetrTransformerDecoderLayer",
                        "attn_cfgs": [
                            {"type": "MultiheadAttention", "embed_dims": WIDTH,
                             "num_heads": HEADS, "dropout": 0.0},
                            sampling,
                        ],
                        **ffn,
                        "operation_order": (
                            "self_attn", "norm", "cross_attn", "norm", "ffn", "norm"
                        ),
                    },
                },
            },
            "positional_encoding": {
                "type": "SinePositionalEncoding", "num_feats": WIDTH // 2, "temperature": 20,
                "normalize": True,
            },
            "loss_cls": {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0},
            "loss_bbox": {"type": "L1Loss"}, "loss_iou": {"type": "GIoULoss"},
        },
        "rpn_head": {"type": "RPNHead"},
        "roi_head": [{"type": "CoStandardRoIHead"}],
        "bbox_head": [{"type": "CoATSSHead"}],
        "train_cfg": [{}, {}, {}],
        "test_cfg": [
            {"max_per_img": 300, "nms": {"type": "soft_nms", "iou_threshold": 0.8}},
            {"rpn": {}, "rcnn": {}}, {},
        ],
    }  # fmt: skip


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
    if kind == "CoDETR":
        shapes = chain(co_dino(), of_training())
    else:
        shapes = detr(kind) if kind in ONE_LEVEL else deformable_detr(two_stage, kind == "DINO")
    state = {name: torch.rand(shape, generator=generator) + 0.5 for name, shape in shapes}
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
