"""RF-DETR (Robinson et al. 2025), as https://github.com/roboflow/rf-detr saves it: detectors of one
level, as all are that it publishes today."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, detector_config, image_processor
from ablate_kit.models.bridge.name_rules import NameRule, both, deformable, packed
from ablate_kit.models.bridge.official.coco_names import COCO_BY_ID, COCO_IN_ORDER
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.classes import NO_CLASS

DINO, HF_DINO = "backbone.0.encoder.encoder", "model.backbone.backbone"
PATCHES = f"{DINO}.embeddings.patch_embeddings.projection"
POSITIONS = f"{DINO}.embeddings.position_embeddings"
LAYERS = f"{DINO}.encoder.layer"
PROJECTOR = "backbone.0.projector.stages"
DECODER = "transformer.decoder.layers"
SAMPLING = f"{DECODER}.0.cross_attn.attention_weights.weight"
KEYPOINTS = "_kp_active_mask"
CONFIG = "model_config"  # where newer versions keep what older ones have among the arguments
DINO_HEAD = 64  # channels of each of DINOv2's heads, whatever its size
# The first stage leaves out cells whose centers lie at less than 0.01 of the image: where there are
# so many, those at the border. Hugging Face's never proposes them, the original may.
MOST_CELLS = 49


@dataclass(frozen=True)
class Published:
    """What sets the models with patches of one size apart: windows on a side, and features."""

    windows: int
    features: tuple[int, ...]
    resolution: int | None  # None: as many patches as there are position encodings


PUBLISHED = {
    14: Published(4, (2, 5, 8, 11), 560),  # base
    16: Published(2, (3, 6, 9, 12), None),  # nano, small, medium, large
}


def recognizes(names: Collection[str]) -> bool:
    return {
        f"{PATCHES}.weight",
        f"{PROJECTOR}.0.0.cv1.conv.weight",
        SAMPLING,
        "refpoint_embed.weight",
        "query_feat.weight",
        "class_embed.weight",
        "bbox_embed.layers.0.weight",
    } <= set(names)


def counterpart(told: Told) -> Counterpart:
    _refuse(told)
    told.reads(CONFIG)
    width = told.shape("query_feat.weight")[1]
    groups = told.count("transformer.enc_output")
    queries = told.rows("query_feat.weight") // groups
    self_heads = told.heads("sa_nheads", width, max(1, width // 32))
    cross_heads = told.number("ca_nheads", max(1, width // 16), "heads in cross-attention")
    told.must("bbox_reparam", True, words="boxes relative to the size of reference boxes")
    backbone, resolution = _backbone(told)
    cells = resolution // backbone["patch_size"]
    if not queries <= cells**2 or cells > MOST_CELLS:
        raise UserError(
            f"{told.checkpoint} sees images as {cells} by {cells} cells, of which it proposes "
            f"{queries}; transformers' model computes the same with up to {MOST_CELLS} on a side, "
            "and as many as are proposed"
        )
    config = {
        **detector_config("RfDetr", "rf_detr", _classes(told)),
        "backbone_config": backbone,
        "d_model": width,
        "num_queries": queries,
        "group_detr": groups,
        "c2f_num_blocks": told.count(f"{PROJECTOR}.0.0.m"),
        "layer_norm_eps": 1e-6,  # of the projector
        "decoder_layers": told.count(DECODER),
        "decoder_self_attention_heads": self_heads,
        "decoder_cross_attention_heads": cross_heads,
        "decoder_n_points": told.rows(SAMPLING) // cross_heads,
        "decoder_ffn_dim": told.rows(f"{DECODER}.0.linear1.weight"),
        "dropout": 0.0,
    }
    # Its own processor needs torchvision; this one resizes, and reads detections, in the same way.
    square = {"height": resolution, "width": resolution}
    images = image_processor("RTDetrImageProcessor", square) | {"do_pad": False}
    # Of keypoints, of which a detector has none.
    empty = KEYPOINTS in told and not told.checkpoint.tensor(KEYPOINTS).numel
    dropped = (KEYPOINTS,) if empty else ()
    return told.counterpart(config, images, RULES, dropped)


def _refuse(told: Told) -> None:
    for sign, what in (
        ("segmentation_head.", "masks, which this does not evaluate"),
        ("transformer.decoder.bbox_embed.", "boxes refined by each layer of the decoder"),
        (f"{DINO}.embeddings.register_tokens", "registers in the backbone"),
        (f"{PROJECTOR}.1.", "several levels"),
        ("backbone.0.projector.stages_sampling.", "a level at another scale than the backbone's"),
    ):
        if any(name.startswith(sign) for name in told.checkpoint.tensors):
            raise UserError(f"{told.checkpoint} has {what}; there is no exact counterpart for it")
    if "transformer.enc_output.0.weight" not in told:
        raise UserError(f"{told.checkpoint} has one stage; transformers' model has two")


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
    block, hf_block = f"{PROJECTOR}.0.0", "model.backbone.projector.projector_layer"
    decoder, hf_decoder = f"{DECODER}.{{layer}}", "model.decoder.layers.{layer}"
    tokens = ("cls_token", "mask_token", "position_embeddings")
    convolutions = [
        (f"{block}.cv{{n}}", f"{hf_block}.conv{{n}}"),
        (f"{block}.m.{{block}}.cv{{n}}", f"{hf_block}.bottlenecks.{{block}}.conv{{n}}"),
    ]
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
        *(NameRule(f"{one}.conv.weight", (f"{hf}.conv.weight",)) for one, hf in convolutions),
        *(both(f"{one}.bn", f"{hf}.norm") for one, hf in convolutions),
        both(f"{PROJECTOR}.0.1", "model.backbone.projector.layer_norm"),
        NameRule("refpoint_embed.weight", ("model.reference_point_embed.weight",)),
        NameRule("query_feat.weight", ("model.query_feat.weight",)),
        packed(f"{decoder}.self_attn", f"{hf_decoder}.self_attn")[0],
        both(f"{decoder}.self_attn.out_proj", f"{hf_decoder}.self_attn.o_proj"),
        *deformable(f"{decoder}.cross_attn", f"{hf_decoder}.cross_attn"),
        both(f"{decoder}.linear{{n}}", f"{hf_decoder}.mlp.fc{{n}}"),
        both(f"{decoder}.norm1", f"{hf_decoder}.self_attn_layer_norm"),
        both(f"{decoder}.norm2", f"{hf_decoder}.cross_attn_layer_norm"),
        both(f"{decoder}.norm3", f"{hf_decoder}.layer_norm"),
        both("transformer.decoder.norm", "model.decoder.layernorm"),
        *(
            both(f"transformer.{name}", f"model.{name}")
            for name in (
                "enc_output.{group}", "enc_output_norm.{group}", "enc_out_class_embed.{group}",
                "enc_out_bbox_embed.{group}.layers.{n}", "decoder.ref_point_head.layers.{n}",
            )
        ),
        both("class_embed", "class_embed"),
        both("bbox_embed.layers.{n}", "bbox_embed.layers.{n}"),
    )  # fmt: skip


RULES = _rules()
