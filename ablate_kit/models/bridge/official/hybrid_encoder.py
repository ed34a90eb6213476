"""What RT-DETR and D-FINE have in common: the hybrid encoder, the decoder's heads, and how images
are prepared.

Their files hold no configuration. What tensors cannot tell, the repositories' configurations have
alike for all sizes, so that it is assumed.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablate_kit.errors import UserError
from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.bridge.counterpart import detector_config, image_processor
from ablate_kit.models.bridge.name_rules import NameRule, both, packed
from ablate_kit.models.bridge.official.told_by_file import COCO_IN_ORDER, Told

if TYPE_CHECKING:
    import torch

ENCODER, DECODER = "encoder.encoder.0.layers", "decoder.decoder.layers"
POINT_SCALES = f"{DECODER}.0.cross_attn.num_points_scale"
POSITION = "decoder.query_pos_head.layers"
SIZE = 640
LARGEST_SIZE = 4096
# Buffers that transformers computes anew.
RECOMPUTED = ("decoder.anchors", "decoder.valid_mask")
# What RT-DETRv4 compares with a larger network, in training alone.
DISTILLED = "encoder.feature_projector"


def conv_norm(
    source: str,
    target: str,
    names: tuple[str, str] = ("conv", "norm"),
    target_names: tuple[str, str] = ("conv", "norm"),
) -> tuple[NameRule, ...]:
    """A convolution without bias, and its batch norm with what that has counted."""
    (conv, norm), (target_conv, target_norm) = names, target_names
    return (
        NameRule(f"{source}.{conv}.weight", (f"{target}.{target_conv}.weight",)),
        NameRule(f"{source}.{norm}.{{bn}}", (f"{target}.{target_norm}.{{bn}}",)),
    )


def conv_norms(source: str, target: str, parts: Mapping[str, str]) -> tuple[NameRule, ...]:
    """Of several ``parts`` of a block, by their official names."""
    return tuple(
        rule
        for ours, theirs in parts.items()
        for rule in conv_norm(f"{source}.{ours}", f"{target}.{theirs}")
    )


def _transformer_layer(source: str, target: str, norms: Sequence[str]) -> tuple[NameRule, ...]:
    """``norms`` in the order of the official numbers; an empty name is passed over."""
    return (
        *packed(f"{source}.self_attn", f"{target}.self_attn"),
        both(f"{source}.linear1", f"{target}.fc1"),
        both(f"{source}.linear2", f"{target}.fc2"),
        *(both(f"{source}.norm{i}", f"{target}.{name}") for i, name in enumerate(norms, 1) if name),
    )


HEAD_RULES = (
    NameRule("decoder.denoising_class_embed.weight", ("model.denoising_class_embed.weight",)),
    both("decoder.enc_score_head", "model.enc_score_head"),
    both("decoder.enc_bbox_head.layers.{i}", "model.enc_bbox_head.layers.{i}"),
    both("decoder.query_pos_head.layers.{i}", "model.decoder.query_pos_head.layers.{i}"),
    both("decoder.dec_score_head.{n}", "model.decoder.class_embed.{n}"),
    both("decoder.dec_bbox_head.{n}.layers.{i}", "model.decoder.bbox_embed.{n}.layers.{i}"),
)


def shared_rules(decoder_norms: Sequence[str]) -> tuple[NameRule, ...]:
    """Rules for all but the backbone, the fusion blocks, and the decoder's cross-attention."""
    inputs = ("0", "1")
    layers = "encoder.encoder.{i}.layers.{layer}"
    return (
        *conv_norm("encoder.input_proj.{i}", "model.encoder_input_proj.{i}", target_names=inputs),
        *_transformer_layer(
            layers, f"model.{layers}", ("self_attn_layer_norm", "final_layer_norm")
        ),
        *conv_norm("encoder.lateral_convs.{i}", "model.encoder.lateral_convs.{i}"),
        *conv_norm("decoder.input_proj.{i}", "model.decoder_input_proj.{i}", target_names=inputs),
        *_transformer_layer(
            f"{DECODER}.{{layer}}", "model.decoder.layers.{layer}", decoder_norms
        ),
        both("decoder.enc_output.proj", "model.enc_output.0"),
        both("decoder.enc_output.norm", "model.enc_output.1"),
        *HEAD_RULES,
    )  # fmt: skip


def shared_config(
    told: Told,
    model: str,
    kind: str,
    backbone: dict[str, Any],
    stages: Sequence[int],
    inputs: Sequence[int],
) -> dict[str, Any]:
    """Settings that RT-DETR and D-FINE have.

    Args:
        model: as ``detector_config`` takes it, and ``kind``.
        stages: of the backbone that are handed on, from 0.
        inputs: their channels.
    """
    handed = {**backbone, "out_features": [f"stage{one + 1}" for one in stages]}
    strides = [4 * 2**one for one in stages]
    return {
        **decoder_config(told, model, kind, handed),
        **encoder_config(told, strides, inputs),
        "decoder_ffn_dim": told.rows(f"{DECODER}.0.linear1.weight"),
    }


def encoder_config(told: Told, strides: Sequence[int], inputs: Sequence[int]) -> dict[str, Any]:
    """Of the hybrid encoder, which takes maps with so many pixels of the image to a place, and so
    many channels."""
    width = told.rows("encoder.lateral_convs.0.conv.weight", 4)
    if told.count("encoder.encoder") != 1:
        raise UserError(
            f"{told.checkpoint} has {told.count('encoder.encoder')} transformers in the encoder; "
            "expected one, on the last map"
        )
    return {
        "encoder_hidden_dim": width,
        "encoder_in_channels": list(inputs),
        "feat_strides": list(strides),
        "encode_proj_layers": [len(inputs) - 1],
        "encoder_layers": told.count(ENCODER),
        "encoder_attention_heads": told.heads("nhead", width),
        "encoder_ffn_dim": told.rows(f"{ENCODER}.0.linear1.weight"),
    }


def decoder_config(
    told: Told, model: str, kind: str, backbone: dict[str, Any], queries: int = 300
) -> dict[str, Any]:
    """Of all but the encoder; ``queries``: by default."""
    outputs, decoder_width = told.shape("decoder.dec_score_head.0.weight")
    if told.rows("decoder.enc_score_head.weight") != outputs:
        raise UserError(
            "queries are chosen by a score without class (query_select_method: agnostic), which "
            "has no counterpart in transformers"
        )
    if "decoder.tgt_embed.weight" in told:
        raise UserError(
            "queries have learnt contents (learn_query_content), which has no counterpart in "
            "transformers"
        )
    classes = told.classes(outputs, coco=COCO_IN_ORDER)
    counted = any(
        name.startswith("backbone.") and name.endswith(".num_batches_tracked")
        for name in told.checkpoint.tensors
    )
    return detector_config(model, kind, classes) | {
        "backbone": None,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone_config": backbone,
        "freeze_backbone_batch_norms": not counted,
        "d_model": decoder_width,
        "num_queries": told.number("num_queries", queries, "queries"),
        "num_denoising": 100 if "decoder.denoising_class_embed.weight" in told else 0,
    }


def handed_on(told: Told, sizes: Sequence[int], weight: str) -> tuple[list[int], list[int]]:
    """Which stages of the backbone, with channels ``sizes``, the encoder takes, and their channels.

    ``weight`` names the encoder's convolution of one input, with ``{}`` for its number.
    """
    count = told.count("encoder.input_proj")
    inputs = [told.shape(weight.format(i), 4)[1] for i in range(count)]
    stages = list(range(len(sizes) - count, len(sizes)))
    if inputs != list(sizes[-count:]):
        raise UserError(
            f"the encoder takes maps of {inputs} channels and the backbone has {list(sizes)}; "
            f"expected the last {count} of them"
        )
    return stages, inputs


def points(told: Told) -> list[int] | None:
    """Sampling points of each level, which the scale of their offsets tells: 1/n, n times each.

    None where the file does not hold it.
    """
    if POINT_SCALES not in told:
        return None
    scales = told.checkpoint.read(POINT_SCALES).tolist()
    found: list[int] = []
    while sum(found) < len(scales):
        scale = scales[sum(found)]
        found.append(round(1 / scale) if 0 < scale <= 1 else len(scales) + 1)
    if scales != [] and sum(found) == len(scales):
        return found
    raise UserError(f'"{POINT_SCALES}" is {scales}; expected 1/n, n times for each level')


def sampling(told: Told) -> dict[str, str]:
    """How cross-attention samples a map, which no tensor tells."""
    words = "bilinear sampling (--set cross_attn_method=discrete)"
    method = told.choice("cross_attn_method", ("default", "discrete"), words)
    return {} if method == "default" else {"decoder_method": method}


def shared_processor(
    told: Told, strides: Sequence[int], queries: int, *, any_shape: bool = False
) -> dict[str, Any]:
    """
    Args:
        strides: of the maps, among whose places ``queries`` are chosen.
        any_shape: whether images need not be square: of models whose encoder has no position
            encodings, which on other maps differ from those of transformers.
    """
    height, width = _size(told, strides)
    if height != width and not any_shape:
        raise UserError(
            f"images of {width}x{height} (eval_spatial_size: [{height}, {width}]) are no squares, "
            "and transformers' encoder has other position encodings for them; expected squares"
        )
    places = _places(height, width, strides)
    if queries > places:
        raise UserError(
            f"{queries:,} queries (num_queries) are chosen among the {places:,} places of a "
            f"{width}x{height} image; expected as many at most"
        )
    size = {"height": height, "width": width}
    # Colors go from 0 to 1, as they are.
    unlike_detr = {"do_normalize": False, "do_pad": False}
    return {**image_processor("RTDetrImageProcessor", size), **unlike_detr}


def _places(height: int, width: int, strides: Sequence[int]) -> int:
    return sum((height // stride) * (width // stride) for stride in strides)


def _size(told: Told, strides: Sequence[int]) -> tuple[int, int]:
    """Height and width of the images that the model is evaluated on, which the anchors tell."""
    import torch

    name = RECOMPUTED[0]
    if name not in told:
        side = told.number("eval_spatial_size", SIZE, "pixels as height and width of images")
        if side % strides[-1] or side > LARGEST_SIZE:
            raise UserError(
                f"eval_spatial_size is {side}; expected a multiple of {strides[-1]}, the pixels of "
                f"the coarsest map, up to {LARGEST_SIZE}"
            )
        return side, side
    anchors = told.checkpoint.read(name)
    # A file of half precision has rounded them.
    rounded = torch.finfo(anchors.dtype).eps if anchors.is_floating_point() else 0.0
    tolerance = max(1e-4, rounded)
    sides = range(strides[-1], LARGEST_SIZE + 1, strides[-1])
    for height, width in itertools.product(sides, sides):
        if anchors.shape == (1, _places(height, width, strides), 4) and torch.allclose(
            anchors[0].float(), _anchors(height, width, strides), rtol=tolerance, atol=tolerance
        ):
            return height, width
    raise UserError(
        f'"{name}" are not those that transformers computes for an image of any size '
        "(eval_spatial_size)"
    )


def _anchors(height: int, width: int, strides: Sequence[int]) -> "torch.Tensor":
    """Centers and sizes of the places in all maps, before the sigmoid."""
    import torch  # by which no command that needs none waits

    levels = []
    for level, stride in enumerate(strides):
        rows, columns = (
            (torch.arange(side // stride) + 0.5) / (side // stride) for side in (height, width)
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        extent = torch.full_like(x, 0.05 * 2**level)
        levels.append(torch.stack([x, y, extent, extent], -1).reshape(-1, 4))
    places = torch.cat(levels)
    inside = ((places > 0.01) & (places < 0.99)).all(-1, keepdim=True)
    return torch.where(inside, torch.logit(places), math.inf)


def as_deim(told: Told, config: dict[str, Any]) -> dict[str, Any]:
    """``config``, or DEIM's, which has SiLU where the others have ReLU.

    Tensors do not tell, but for a third layer of ``query_pos_head``, and the projection that
    RT-DETRv4 was distilled by. A whole state of training does: DEIM's has no state of a scheduler.
    """
    training = told.checkpoint.archive.metadata
    likely = "optimizer" in training and "lr_scheduler" not in training
    likely |= f"{DISTILLED}.0.weight" in told
    if likely or told.count(POSITION) == 3:
        options, words = ("silu", "relu"), "SiLU in the decoder, as in DEIM (--set mlp_act=relu)"
    else:
        options, words = ("relu", "silu"), "ReLU in the decoder (of DEIM: --set mlp_act=silu)"
    if told.choice("mlp_act", options, words) == "relu":
        return config
    kind = f"deim_{config['model_type']}"
    return config | {
        "architectures": [f"Deim{name}" for name in config["architectures"]],
        "model_type": kind,
        "auto_map": BUNDLED[kind].auto_map,
        "decoder_activation_function": "silu",
    }


def without_layers(told: Told, kept: int) -> tuple[str, ...]:
    """Names of tensors of decoder layers that evaluation does not run: from ``kept`` on."""
    places = (f"{DECODER}.", "decoder.dec_score_head.", "decoder.dec_bbox_head.")
    return tuple(
        name
        for name in told.checkpoint.tensors
        for place in places
        if name.startswith(place) and int(name.removeprefix(place).partition(".")[0]) >= kept
    )
