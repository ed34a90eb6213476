"""What LW-DETR and RF-DETR have in common: the projector's blocks, a first stage that proposes
boxes, and a decoder that is trained with groups of queries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.bridge.counterpart import image_processor
from ablate_kit.models.bridge.name_rules import NameRule, both, deformable, packed
from ablate_kit.models.bridge.official.told_by_file import Told

if TYPE_CHECKING:
    import torch

PROJECTOR, HF_PROJECTOR = "backbone.0.projector.stages", "model.backbone.projector"
DECODER, HF_DECODER = "transformer.decoder.layers", "model.decoder.layers.{layer}"
SAMPLING = f"{DECODER}.0.cross_attn.attention_weights.weight"
GROUP_SIGNS = {
    f"{PROJECTOR}.0.0.cv1.conv.weight",
    SAMPLING,
    "refpoint_embed.weight",
    "query_feat.weight",
    "class_embed.weight",
    "bbox_embed.layers.0.weight",
}
# Both leave out places whose centers lie at less than this from the border, in their own ways.
BORDER = 0.01


def shared_config(told: Told, levels: int) -> dict[str, Any]:
    """Settings of the projector and decoder, for so many ``levels`` of features."""
    if any(name.startswith("transformer.decoder.bbox_embed.") for name in told.checkpoint.tensors):
        raise UserError(
            f"{told.checkpoint} has boxes refined by each layer of the decoder; there is no exact "
            "counterpart for it"
        )
    if "transformer.enc_output.0.weight" not in told:
        raise UserError(f"{told.checkpoint} has one stage; transformers' model has two")
    width = told.shape("query_feat.weight")[1]
    groups = told.count("transformer.enc_output")
    heads = told.heads("sa_nheads", width, max(1, width // 32))
    cross_heads = told.number("ca_nheads", max(1, width // 16), "heads in cross-attention")
    told.must("bbox_reparam", True, words="boxes relative to the size of reference boxes")
    return {
        "d_model": width,
        "num_queries": told.rows("query_feat.weight") // groups,
        "group_detr": groups,
        "c2f_num_blocks": told.count(f"{PROJECTOR}.0.0.m"),
        "decoder_layers": told.count(DECODER),
        "decoder_self_attention_heads": heads,
        "decoder_cross_attention_heads": cross_heads,
        "decoder_n_points": told.rows(SAMPLING) // (cross_heads * levels),
        "decoder_ffn_dim": told.rows(f"{DECODER}.0.linear1.weight"),
        "dropout": 0.0,
    }


def shared_processor(told: Told, side: int, queries: int) -> dict[str, Any]:
    """Images squeezed to squares, and as many detections as the original has of them, up to COCO's
    limit.

    The original takes the best ``num_select`` pairs of a query and a class. In transformers they
    are as many as queries with one processor, and 100 with another; the models' own need
    torchvision.
    """
    kind = "RTDetrImageProcessor"
    if queries < MAX_DETECTIONS or told.arguments.get("num_select") is not None:
        selected = told.number("num_select", MAX_DETECTIONS, "detections of an image")
        wanted, found = min(selected, MAX_DETECTIONS), min(queries, MAX_DETECTIONS)
        if wanted != found and wanted < MAX_DETECTIONS:
            raise UserError(
                f"{selected} detections of {queries} queries (num_select) have no counterpart in "
                f"transformers; expected as many as queries, or {MAX_DETECTIONS} and more"
            )
        if wanted != found:
            kind = "DeformableDetrImageProcessor"
    return image_processor(kind, {"height": side, "width": side}) | {"do_pad": False}


def check_proposals(told: Told, queries: int, sides: Sequence[int]) -> None:
    """Notes where the first stage of transformers' model may choose otherwise, and refuses a file
    whose images have fewer places than it proposes boxes.

    Args:
        queries: how many boxes are proposed.
        sides: of the square maps, in places.
    """
    inner = [sum(BORDER < (i + 0.5) / side < 1 - BORDER for i in range(side)) for side in sides]
    places = sum(side**2 for side in inner)
    if queries > places:
        raise UserError(
            f"{told.checkpoint} sees images as {places} places, of which it proposes {queries}"
        )
    if inner != list(sides):
        # The original scores those at the border as if nothing were seen there.
        told.assumed.append(
            f"nothing is proposed at the border of the image, which scores {_of_nothing(told):.1g} "
            f"(the original does where fewer than {queries} places score more)"
        )


def _of_nothing(told: Told) -> float:
    """The best score of the first stage where features are zero."""
    import torch  # by which no command that needs none waits

    def read(name: str) -> "torch.Tensor":
        return told.checkpoint.read(f"transformer.{name}").float()

    bias = read("enc_output.0.bias")
    norm, head = "enc_output_norm.0", "enc_out_class_embed.0"
    seen = torch.nn.functional.layer_norm(
        bias, bias.shape, read(f"{norm}.weight"), read(f"{norm}.bias")
    )
    return float((read(f"{head}.weight") @ seen + read(f"{head}.bias")).max().sigmoid())


def projector_rules(source: str, target: str, norm: str) -> tuple[NameRule, ...]:
    """One level's block, and the norm behind it. ``norm`` stands for what those inside hold: ``p``,
    or ``bn`` of batch norms."""
    layers = {
        f"{source}.0.cv{{n}}": f"{target}.projector_layer.conv{{n}}",
        f"{source}.0.m.{{i}}.cv{{n}}": f"{target}.projector_layer.bottlenecks.{{i}}.conv{{n}}",
    }
    return (
        *(NameRule(f"{one}.conv.weight", (f"{hf}.conv.weight",)) for one, hf in layers.items()),
        *(
            NameRule(f"{one}.bn.{{{norm}}}", (f"{hf}.norm.{{{norm}}}",))
            for one, hf in layers.items()
        ),
        both(f"{source}.1", f"{target}.layer_norm"),
    )


def _rules() -> tuple[NameRule, ...]:
    decoder = f"{DECODER}.{{layer}}"
    return (
        NameRule("refpoint_embed.weight", ("model.reference_point_embed.weight",)),
        NameRule("query_feat.weight", ("model.query_feat.weight",)),
        *packed(f"{decoder}.self_attn", f"{HF_DECODER}.self_attn", "o_proj"),
        *deformable(f"{decoder}.cross_attn", f"{HF_DECODER}.cross_attn"),
        both(f"{decoder}.linear{{n}}", f"{HF_DECODER}.mlp.fc{{n}}"),
        both(f"{decoder}.norm1", f"{HF_DECODER}.self_attn_layer_norm"),
        both(f"{decoder}.norm2", f"{HF_DECODER}.cross_attn_layer_norm"),
        both(f"{decoder}.norm3", f"{HF_DECODER}.layer_norm"),
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


SHARED = _rules()
"""All but the backbone and the projector."""
