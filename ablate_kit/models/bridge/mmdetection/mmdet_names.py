"""Where each tensor of MMDetection's DETR and its descendants goes in Hugging Face's."""

from collections.abc import Iterable

from ablate_kit.models.bridge.mmcv_layers import dino_rules
from ablate_kit.models.bridge.name_rules import NameRule, both, deformable, packed
from ablate_kit.models.bridge.official.dab_detr import PROJECTIONS
from ablate_kit.models.bridge.resnet import resnet_counters, resnet_rules
from ablate_kit.models.bridge.swin import INDEX, swin_rules

RESNET = resnet_rules("backbone")
SWIN = swin_rules(
    "backbone",
    embedding="patch_embed.projection",
    stage="stages.{stage}",
    attention="attn.w_msa",
    mlp=("ffn.layers.0.0", "ffn.layers.1"),
)

ORIGINAL_SWIN = swin_rules("backbone")

# Counters of training, indices that the window's size tells, and the colors' mean and deviation,
# which go to the image processor. In DINO, the labels of the queries for denoising.
DROPPED = (
    *resnet_counters("backbone"),
    f"backbone.stages.{{stage}}.blocks.{{block}}.attn.w_msa.{INDEX}",
    "data_preprocessor.mean",
    "data_preprocessor.std",
    "dn_query_generator.label_embedding.weight",
)

# In Co-DINO, all that trains its encoder by other heads than the decoder's.
DROPPED_OF_CO_DINO = (
    *DROPPED,
    f"backbone.layers.{{stage}}.blocks.{{block}}.attn.{INDEX}",
    *(f"{head}.{{any}}" for head in ("rpn_head", "roi_head", "bbox_head")),
    *(
        f"query_head.{name}"
        for name in (
            "downsample.{n}.{p}",
            "transformer.aux_pos_trans.{n}.{p}",
            "transformer.aux_pos_trans_norm.{n}.{p}",
            "transformer.pos_feats_trans.{n}.{p}",
            "transformer.pos_feats_norm.{n}.{p}",
            "dn_generator.label_embedding.weight",
            "label_embedding.weight",
        )
    ),
)


def _layer(stack: str, norms: Iterable[str]) -> tuple[NameRule, ...]:
    """Feed-forward layers and norms of an encoder or decoder layer."""
    source, target = f"{stack}.layers.{{layer}}", f"model.{stack}.layers.{{layer}}"
    return (
        both(f"{source}.ffn.layers.0.0", f"{target}.fc1"),
        both(f"{source}.ffn.layers.1", f"{target}.fc2"),
        *(both(f"{source}.norms.{i}", f"{target}.{name}") for i, name in enumerate(norms)),
    )


LAYERS = (
    *_layer("encoder", ("self_attn_layer_norm", "final_layer_norm")),
    *_layer("decoder", ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")),
    *packed("decoder.layers.{layer}.self_attn.attn", "model.decoder.layers.{layer}.self_attn"),
)
QUERIES = NameRule("query_embedding.weight", ("model.query_position_embeddings.weight",))

DETR = (
    *RESNET,
    *LAYERS,
    QUERIES,
    *packed("encoder.layers.{layer}.self_attn.attn", "model.encoder.layers.{layer}.self_attn"),
    *packed("decoder.layers.{layer}.cross_attn.attn", "model.decoder.layers.{layer}.encoder_attn"),
    both("neck.convs.0.conv", "model.input_projection"),
    both("decoder.post_norm", "model.decoder.layernorm"),
    both("bbox_head.fc_cls", "class_labels_classifier"),
    both("bbox_head.reg_ffn.layers.0.0", "bbox_predictor.layers.0"),
    both("bbox_head.reg_ffn.layers.1", "bbox_predictor.layers.1"),
    both("bbox_head.fc_reg", "bbox_predictor.layers.2"),
)
CONDITIONAL_DETR = (
    *DETR,
    # Content and position are projected apart.
    *(
        both(
            f"decoder.layers.{{layer}}.{place}.{name}_proj",
            f"model.decoder.layers.{{layer}}.{short}_{name}_proj",
        )
        for place, short in (("self_attn", "sa"), ("cross_attn", "ca"))
        for name in PROJECTIONS
    ),
    *(
        both(f"decoder.layers.{{layer}}.{source}", f"model.decoder.layers.{{layer}}.{target}")
        for source, target in (
            ("self_attn.out_proj", "self_attn.out_proj"),
            ("cross_attn.out_proj", "encoder_attn.out_proj"),
        )
    ),
    *(
        both(f"decoder.{name}.layers.{{n}}", f"model.decoder.{name}.layers.{{n}}")
        for name in ("query_scale", "ref_point_head")
    ),
)


def _dab_decoder_layer() -> tuple[NameRule, ...]:
    source, target = "decoder.layers.{layer}", "model.decoder.layers.{layer}"
    norms = ("self_attn.self_attn", "cross_attn.cross_attn", "mlp.final")
    return (
        *(
            both(f"{source}.{place}.{name}_proj", f"{target}.{place}.{place}_{full}_proj")
            for place in ("self_attn", "cross_attn")
            for name, full in PROJECTIONS.items()
        ),
        *(
            both(f"{source}.{place}.out_proj", f"{target}.{place}.{place}.output_proj")
            for place in ("self_attn", "cross_attn")
        ),
        *(
            both(f"{source}.norms.{i}", f"{target}.{name}_layer_norm")
            for i, name in enumerate(norms)
        ),
        both(f"{source}.ffn.layers.0.0", f"{target}.mlp.fc1"),
        both(f"{source}.ffn.layers.1", f"{target}.mlp.fc2"),
        NameRule(f"{source}.ffn.layers.0.1.weight", (f"{target}.mlp.activation_fn.weight",)),
    )


DAB_DETR = (
    *RESNET,
    both("neck.convs.0.conv", "model.input_projection"),
    NameRule("query_embedding.weight", ("model.query_refpoint_embeddings.weight",)),
    NameRule("patterns.weight", ("model.patterns.weight",)),
    *packed("encoder.layers.{layer}.self_attn.attn", "model.encoder.layers.{layer}.self_attn"),
    *_layer("encoder", ("self_attn_layer_norm", "final_layer_norm")),
    NameRule(  # PReLU's slope
        "encoder.layers.{layer}.ffn.layers.0.1.weight",
        ("model.encoder.layers.{layer}.activation_fn.weight",),
    ),
    *_dab_decoder_layer(),
    both("encoder.query_scale.layers.{n}", "model.encoder.query_scale.layers.{n}"),
    *(
        both(f"decoder.{name}.layers.{{n}}", f"model.decoder.{name}.layers.{{n}}")
        for name in ("query_scale", "ref_point_head", "ref_anchor_head")
    ),
    both("decoder.post_norm", "model.decoder.layernorm"),
    both("bbox_head.fc_cls", "class_embed"),
    both("bbox_head.fc_reg.layers.{n}", "bbox_predictor.layers.{n}"),
)


def deformable_detr(levels: int, *, box_refine: bool, two_stage: bool) -> tuple[NameRule, ...]:
    """The rules for one of Deformable DETR's variants.

    Args:
        levels: of the backbone; the neck's further ones come after them.
    """
    classes = "model.decoder.class_embed" if two_stage else "class_embed"
    boxes = "model.decoder.bbox_embed" if box_refine else "bbox_embed"
    n = "{n}" if box_refine else "0"  # without refinement all layers share one head
    heads = (
        NameRule("bbox_head.cls_branches.{n}.{p}", (f"{classes}.{n}.{{p}}",), tied=not box_refine),
        *(
            NameRule(
                f"bbox_head.reg_branches.{{n}}.{2 * i}.{{p}}",
                (f"{boxes}.{n}.layers.{i}.{{p}}",),
                tied=not box_refine,
            )
            for i in range(3)
        ),
    )
    return (
        *RESNET,
        *_of_levels(levels),
        *heads,
        QUERIES,
        both("reference_points_fc", "model.reference_points"),
        both("pos_trans_fc", "model.pos_trans"),
        both("pos_trans_norm", "model.pos_trans_norm"),
    )


def dino(levels: int, layers: int, *, swin: bool) -> tuple[NameRule, ...]:
    """``levels`` as above; ``layers`` of the decoder, whose heads come before that of proposals."""
    return (
        *(SWIN if swin else RESNET),
        *_of_levels(levels),
        *_heads_of_dino("bbox_head", layers),
        NameRule("query_embedding.weight", ("model.query_contents.weight",)),
        both("decoder.ref_point_head.layers.{n}", "model.decoder.ref_point_head.layers.{n}"),
        both("decoder.norm", "model.decoder.layernorm"),
    )


def co_dino_rules(levels: int, layers: int, backbone: tuple[NameRule, ...]) -> tuple[NameRule, ...]:
    """``levels`` and ``layers`` as above; what only training has is left out."""
    place = "query_head.transformer"
    return (
        *backbone,
        *_neck(levels),
        *dino_rules(place),
        *_heads_of_dino("query_head", layers),
        NameRule(f"{place}.query_embed.weight", ("model.query_contents.weight",)),
        *(
            both(
                f"{place}.decoder.ref_point_head.{2 * i}",
                f"model.decoder.ref_point_head.layers.{i}",
            )
            for i in range(2)
        ),
    )


def _heads_of_dino(place: str, layers: int) -> tuple[NameRule, ...]:
    heads = [(f"{n}", "", f".{n}") for n in range(layers)] + [(f"{layers}", "enc_", "")]
    return tuple(
        rule
        for source, before, after in heads
        for rule in (
            both(f"{place}.cls_branches.{source}", f"{before}class_embed{after}"),
            *(
                both(
                    f"{place}.reg_branches.{source}.{2 * i}",
                    f"{before}bbox_embed{after}.layers.{i}",
                )
                for i in range(3)
            ),
        )
    )


def _neck(levels: int) -> tuple[NameRule, ...]:
    return tuple(
        rule
        for source, n in (("neck.convs.{n}", "{n}"), ("neck.extra_convs.{n}", f"{{n+{levels}}}"))
        for rule in (
            NameRule(f"{source}.conv.weight", (f"model.input_proj.{n}.0.weight",)),
            both(f"{source}.gn", f"model.input_proj.{n}.1"),
        )
    )


def _of_levels(levels: int) -> tuple[NameRule, ...]:
    """What detectors of several levels have in common: all from the neck to the first choice of
    queries, and the decoder's layers."""
    return (
        *LAYERS,
        *_neck(levels),
        *deformable("encoder.layers.{layer}.self_attn", "model.encoder.layers.{layer}.self_attn"),
        *deformable(
            "decoder.layers.{layer}.cross_attn", "model.decoder.layers.{layer}.encoder_attn"
        ),
        NameRule("level_embed", ("model.level_embed",)),
        both("memory_trans_fc", "model.enc_output"),
        both("memory_trans_norm", "model.enc_output_norm"),
    )
