"""Conditional DETR (Meng et al. 2021), as https://github.com/Atten4Vis/ConditionalDETR saves it."""

from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.name_rules import both
from ablate_kit.models.bridge.official import detr
from ablate_kit.models.bridge.official.detr import DECODER, RESNET
from ablate_kit.models.bridge.official.told_by_file import Told

LAYER = "model.decoder.layers.{layer}"
# The decoder projects content and position apart, before the attention, which has no packed ones.
PROJECTIONS = (
    *(f"sa_{one}_proj" for one in ("qcontent", "qpos", "kcontent", "kpos", "v")),
    *(f"ca_{one}_proj" for one in ("qcontent", "qpos", "qpos_sine", "kcontent", "kpos", "v")),
)
RULES = (
    *detr.SHARED,
    *(both(f"{DECODER}.{{layer}}.{name}", f"{LAYER}.{name}") for name in PROJECTIONS),
    both(f"{DECODER}.{{layer}}.self_attn.out_proj", f"{LAYER}.self_attn.out_proj"),
    both(f"{DECODER}.{{layer}}.cross_attn.out_proj", f"{LAYER}.encoder_attn.out_proj"),
    *(
        both(f"transformer.decoder.{name}.layers.{{n}}", f"model.decoder.{name}.layers.{{n}}")
        for name in ("query_scale", "ref_point_head")
    ),
)


SIGNS = {
    f"{DECODER}.0.ca_qpos_sine_proj.weight",
    f"{RESNET}.conv1.weight",
    "query_embed.weight",
    "class_embed.weight",
    "bbox_embed.layers.0.weight",
}


def counterpart(told: Told) -> Counterpart:
    return detr.of_one_level(told, "ConditionalDetr", "conditional_detr", RULES)
