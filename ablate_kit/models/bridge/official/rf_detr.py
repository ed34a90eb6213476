"""RF-DETR (Robinson et al. 2025), as https://github.com/roboflow/rf-detr saves it: detectors of one
level, as all are that it publishes today."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, detector_config
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.group_detr import (
    GROUP_SIGNS,
    HF_PROJECTOR,
    PROJECTOR,
    SHARED,
    check_proposals,
    projector_rules,
    shared_config,
    shared_processor,
)
from ablate_kit.models.bridge.official.told_by_file import COCO_BY_ID, COCO_IN_ORDER, Told
from ablate_kit.models.labels.classes import NO_CLASS

DINO, HF_DINO = "backbone.0.encoder.encoder", "model.backbone.backbone"
PATCHES = f"{DINO}.embeddings.patch_embeddings.projection"
POSITIONS = f"{DINO}.embeddings.position_embeddings"
LAYERS = f"{DINO}.encoder.layer"
KEYPOINTS = "_kp_active_mask"
CONFIG = "model_config"  # where newer versions keep what older ones have among the arguments
DINO_HEAD = 64  # channels of each of DINOv2's heads, whatever its size


@dataclass(frozen=True)
class Published:
    """What sets the models with patches of one size apart: windows on a side, and features."""

    windows: int
    features: tuple[int, ...]
    resolution: int | None  # None: as many patches as there are position encodings


SIGNS = {f"{PATCHES}.weight", *GROUP_SIGNS}
PUBLISHED = {
    14: Published(4, (2, 5, 8, 11), 560),  # base
    16: Published(2, (3, 6, 9, 12), None),  # nano, small, medium, large
}


def counterpart(told: Told) -> Counterpart:
    _refuse(told)
    told.reads(CONFIG)
    shared = shared_config(told, 1)
    backbone, resolution = _backbone(told)
    check_proposals(told, shared["num_queries"], [resolution // backbone["patch_size"]])
    config = {
        **detector_config("RfDetr", "rf_detr", _classes(told)),
        **shared,
        "backbone_config": backbone,
        "layer_norm_eps": 1e-6,  # of the projector
    }
    # Of keypoints, of which a detector has none.
    empty = KEYPOINTS in told and not told.checkpoint.tensor(KEYPOINTS).numel
    dropped = (KEYPOINTS,) if empty else ()
    processor = shared_processor(told, resolution, shared["num_queries"])
    return told.counterpart(config, processor, RULES, dropped)


def _refuse(told: Told) -> None:
    for sign, what in (
        ("segmentation_head.", "masks, which this does not evaluate"),
        (f"{DINO}.embeddings.register_tokens", "registers in the backbone"),
        (f"{PROJECTOR}.1.", "several levels"),
        ("backbone.0.projector.stages_sampling.", "a level at another scale than the backbone's"),
    ):
        if any(name.startswith(sign) for name in told.checkpoint.tensors):
            raise UserError(f"{told.checkpoint} has {what}; there is no exact counterpart for it")


def _backbone(told: Told) -> tuple[dict[str, Any], int]:
    """The configuration of the backbone, and pixels on a side of an image."""
    width, _, patch, _ = told.shape(f"{PATCHES}.weight", 4)
    if width % DINO_HEAD:
        raise UserError(f"the backbone has {width} channels; expected a multiple of {DINO_HEAD}")
    side = math.isqrt(told.shape(POSITIONS, 3)[1] - 1)
    known = PUBLISHED.get(patch)
    if known is None and not {"num_windows", "out_feature_indexes"} <= told.arguments.keys():
        raise UserError(
            f"{told.checkpoint} does not tell num_windows and out_feature_indexes; for patches of "
            f"{patch} pixels there is no model that it must be"
        )
    windows = told.number("num_windows", known.windows if known else 0, "windows on a side")
    features = told.numbers(
        "out_feature_indexes", known.features if known else (), "features of layers {}"
    )
    size = known.resolution if known and known.resolution else side * patch
    resolution = told.number("resolution", size, "pixels on a side of an image")
    if resolution % (patch * windows):
        raise UserError(
            f"images of {resolution} pixels are not {windows} windows of patches of {patch} pixels"
        )
    if told.shape(f"{PROJECTOR}.0.0.cv1.conv.weight", 4)[1] != width * len(features):
        raise UserError(f"the projector does not fit to the features of layers {list(features)}")
    config = {
        "model_type": "rf_detr_dinov2",
        "hidden_size": width,
        "num_attention_heads": width // DINO_HEAD,
        "num_hidden_layers": told.count(LAYERS),
        "mlp_ratio": told.rows(f"{LAYERS}.0.mlp.fc1.weight") // width,
        "image_size": side * patch,
        "patch_size": patch,
        "num_windows": windows,
        "out_features": [f"stage{layer}" for layer in features],
        "layer_norm_eps": 1e-6,
        "use_mask_token": f"{DINO}.embeddings.mask_token" in told,
    }
    return config, resolution


def _classes(told: Told) -> tuple[str, ...]:
    """Class names by output. Versions of RF-DETR number those of a data set from 0 or from 1, and
    give both models one output more than there are names, so that names do not tell."""
    outputs = told.rows("class_embed.weight")
    match told.arguments.get("class_names"):
        case names if told.class_names_are_given or not names:
            pass
        case Mapping() as names:  # by output
            return tuple(str(names.get(i, NO_CLASS)) for i in range(outputs))
        case [*names] if all(isinstance(name, str) for name in names):
            if outputs == len(COCO_BY_ID) and tuple(names) == COCO_IN_ORDER:
                return COCO_BY_ID
            if len(names) == outputs:
                return tuple(names)
            if len(names) < outputs and told.arguments.get("dataset_file") == "yolo":
                return (*names, *([NO_CLASS] * (outputs - len(names))))
            raise UserError(
                f"{told.checkpoint} has {outputs} outputs for {len(names)} class names, and "
                "versions of RF-DETR number them from 0 or from 1: --class-names FILE is the "
                "annotations (_annotations.coco.json) whose category ids are the outputs, or has a "
                f'line for each output, "{NO_CLASS}" where none is meant'
            )
    return told.classes(outputs)


def _rules() -> tuple[NameRule, ...]:
    layer, hf_layer = f"{LAYERS}.{{layer}}", f"{HF_DINO}.encoder.layer.{{layer}}"
    tokens = ("cls_token", "mask_token", "position_embeddings")
    return (
        *(NameRule(f"{DINO}.embeddings.{t}", (f"{HF_DINO}.embeddings.{t}",)) for t in tokens),
        both(PATCHES, f"{HF_DINO}.embeddings.patch_embeddings.projection"),
        both(f"{layer}.norm{{n}}", f"{hf_layer}.norm{{n}}"),
        NameRule(f"{layer}.layer_scale{{n}}.lambda1", (f"{hf_layer}.layer_scale{{n}}.lambda1",)),
        both(f"{layer}.mlp.fc{{n}}", f"{hf_layer}.mlp.fc{{n}}"),
        *(
            both(f"{layer}.attention.{source}", f"{hf_layer}.attention.{target}_proj")
            for source, target in (
                ("attention.query", "q"), ("attention.key", "k"), ("attention.value", "v"),
                ("output.dense", "o"),
            )
        ),
        both(f"{DINO}.layernorm", f"{HF_DINO}.layernorm"),
        *projector_rules(f"{PROJECTOR}.0", HF_PROJECTOR, "p"),
        *SHARED,
    )  # fmt: skip


RULES = _rules()
