"""DAB-DETR (Liu et al. 2022), as https://github.com/IDEA-Research/DAB-DETR saves it."""

from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.detr_config import detr_config
from ablate_kit.models.bridge.name_rules import NameRule, both, packed
from ablate_kit.models.bridge.official import detr
from ablate_kit.models.bridge.official.detr import DECODER, ENCODER, RESNET
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.bridge.resnet import resnet_rules

ENCODER_LAYER, DECODER_LAYER = "model.encoder.layers.{layer}", "model.decoder.layers.{layer}"
TEMPERATURE = 20  # of the position encodings
PROJECTIONS = {
    "qcontent": "query_content",
    "qpos": "query_pos",
    "qpos_sine": "query_pos_sine",
    "kcontent": "key_content",
    "kpos": "key_pos",
    "v": "value",
}
PARTS = {"sa": "self_attn", "ca": "cross_attn"}
RULES = (
    *resnet_rules(RESNET),
    both("input_proj", "model.input_projection"),
    NameRule("refpoint_embed.weight", ("model.query_refpoint_embeddings.weight",)),
    NameRule("transformer.patterns.weight", ("model.patterns.weight",)),
    *packed(f"{ENCODER}.{{layer}}.self_attn", f"{ENCODER_LAYER}.self_attn"),
    *detr.layer_rules("encoder", ("self_attn",)),
    *(
        both(
            f"{DECODER}.{{layer}}.{part}_{source}_proj",
            f"{DECODER_LAYER}.{place}.{place}_{target}_proj",
        )
        for part, place in PARTS.items()
        for source, target in PROJECTIONS.items()
    ),
    *(
        both(f"{DECODER}.{{layer}}.{source}", f"{DECODER_LAYER}.{target}")
        for source, target in {
            "self_attn.out_proj": "self_attn.self_attn.output_proj",
            "cross_attn.out_proj": "cross_attn.cross_attn.output_proj",
            "norm1": "self_attn.self_attn_layer_norm",
            "norm2": "cross_attn.cross_attn_layer_norm",
            "norm3": "mlp.final_layer_norm",
            "linear1": "mlp.fc1",
            "linear2": "mlp.fc2",
        }.items()
    ),
    # PReLU's slope.
    NameRule(f"{ENCODER}.{{layer}}.activation.weight", (f"{ENCODER_LAYER}.activation_fn.weight",)),
    NameRule(
        f"{DECODER}.{{layer}}.activation.weight", (f"{DECODER_LAYER}.mlp.activation_fn.weight",)
    ),
    both("transformer.encoder.query_scale.layers.{n}", "model.encoder.query_scale.layers.{n}"),
    *(
        both(f"transformer.decoder.{name}.layers.{{n}}", f"model.decoder.{name}.layers.{{n}}")
        for name in ("query_scale", "ref_point_head", "ref_anchor_head")
    ),
    both("transformer.decoder.norm", "model.decoder.layernorm"),
    both("class_embed", "class_embed"),
    # The decoder holds the head of boxes once more.
    *(
        NameRule(
            f"{place}bbox_embed.layers.{{n}}.{{p}}", ("bbox_predictor.layers.{n}.{p}",), tied=True
        )
        for place in ("transformer.decoder.", "")
    ),
)


SIGNS = {
    f"{DECODER}.0.ca_qpos_sine_proj.weight",
    f"{RESNET}.conv1.weight",
    "transformer.encoder.query_scale.layers.0.weight",
    "refpoint_embed.weight",
    "class_embed.weight",
}


def counterpart(told: Told) -> Counterpart:
    queries = told.rows("refpoint_embed.weight")
    width = told.rows("input_proj.weight", 4)
    encoder, decoder = detr.stacks(told, width)
    activation = "prelu"  # which has weights
    if f"{DECODER}.0.activation.weight" not in told:
        told.must("transformer_activation", "relu", words="ReLU in the feed-forward layers")
        activation = "relu"
    backbone = told.resnet(RESNET, (3,))
    patterns = "transformer.patterns.weight"
    classes = told.classes(told.rows("class_embed.weight"))
    config = detr_config(
        "DabDetr", "dab-detr", backbone, width, queries, encoder, decoder, classes,
        hidden_size=width,
        activation_function=activation,
        temperature_height=told.number("pe_temperatureH", TEMPERATURE, "as temperature of rows"),
        temperature_width=told.number("pe_temperatureW", TEMPERATURE, "as that of columns"),
        keep_query_pos=f"{DECODER}.1.ca_qpos_proj.weight" in told,
        num_patterns=told.rows(patterns) if patterns in told else 0,
    )  # fmt: skip
    return detr.of_detr_kind(told, config, "ConditionalDetr", RULES)
