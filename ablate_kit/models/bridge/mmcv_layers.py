"""The layers of a transformer as MMCV builds them, whose names detrex has, too."""

from ablate_kit.models.bridge.name_rules import NameRule, both, deformable, packed

NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}


def layer_rules(place: str) -> tuple[NameRule, ...]:
    """Of an encoder and a decoder with deformable attention, which lie at ``place``."""
    encoder, decoder = (f"model.{stack}.layers.{{layer}}" for stack in NORMS)
    attentions = {stack: f"{place}.{stack}.layers.{{layer}}.attentions" for stack in NORMS}
    return (
        *deformable(f"{attentions['encoder']}.0", f"{encoder}.self_attn"),
        *packed(f"{attentions['decoder']}.0.attn", f"{decoder}.self_attn"),
        *deformable(f"{attentions['decoder']}.1", f"{decoder}.encoder_attn"),
        *(
            rule
            for stack, norms in NORMS.items()
            for source, target in [(f"{place}.{stack}.layers.{{layer}}", f"model.{stack}.layers")]
            for rule in (
                both(f"{source}.ffns.0.layers.0.0", f"{target}.{{layer}}.fc1"),
                both(f"{source}.ffns.0.layers.1", f"{target}.{{layer}}.fc2"),
                *(
                    both(f"{source}.norms.{i}", f"{target}.{{layer}}.{name}")
                    for i, name in enumerate(norms)
                ),
            )
        ),
    )


def dino_rules(place: str) -> tuple[NameRule, ...]:
    """DINO's encoder and decoder at ``place``, and what lies between and beside them; but for the
    queries and for the encoding of boxes."""
    return (
        *layer_rules(place),
        NameRule(f"{place}.level_embeds", ("model.level_embed",)),
        *(both(f"{place}.{name}", f"model.{name}") for name in ("enc_output", "enc_output_norm")),
        both(f"{place}.decoder.norm", "model.decoder.layernorm"),
    )
