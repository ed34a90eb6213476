"""DEIMv2's vision transformers, a DINOv3 or the smaller ones that were distilled from one, and
Hugging Face's: with a pyramid of convolutions beside them."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.told_by_file import Told

SMALL, DINOV3 = "backbone.dinov3._model", "backbone.dinov3"
PLACE = "model.conv_encoder"
_HF = f"{PLACE}.backbone"
_HF_LAYER = f"{_HF}.model.layer.{{layer}}"
PATCH = 16
# Which blocks hand on what they compute, from 1, in the published configurations.
TAKEN = {SMALL: (4, 8, 12), DINOV3: (6, 9, 12)}
LAYER_NORM_EPS = {SMALL: 1e-6, DINOV3: 1e-5}


def _vit_rules(place: str) -> tuple[NameRule, ...]:
    layer = f"{place}.blocks.{{layer}}"
    queries, keys, values = (f"{_HF_LAYER}.attention.{name}_proj" for name in "qkv")
    # The bias of the keys, which a DINOv3 masks, goes nowhere.
    masked = "" if place == DINOV3 else f"{keys}.bias"
    return (
        NameRule(f"{place}.cls_token", (f"{_HF}.embeddings.cls_token",)),
        NameRule(f"{place}.storage_tokens", (f"{_HF}.embeddings.register_tokens",)),
        both(f"{place}.patch_embed.proj", f"{_HF}.embeddings.patch_embeddings"),
        NameRule(f"{place}.rope_embed.periods", (f"{_HF}.rope_embeddings.periods",)),
        NameRule(
            f"{layer}.attn.qkv.weight", tuple(f"{one}.weight" for one in (queries, keys, values))
        ),
        NameRule(f"{layer}.attn.qkv.bias", (f"{queries}.bias", masked, f"{values}.bias")),
        *(
            both(f"{layer}.{source}", f"{_HF_LAYER}.{target}")
            for source, target in {
                "norm1": "norm1",
                "norm2": "norm2",
                "attn.proj": "attention.o_proj",
                "mlp.fc1": "mlp.up_proj",
                "mlp.fc2": "mlp.down_proj",
                "mlp.w1": "mlp.gate_proj",
                "mlp.w2": "mlp.up_proj",
                "mlp.w3": "mlp.down_proj",
            }.items()
        ),
        NameRule(f"{layer}.ls{{n}}.gamma", (f"{_HF_LAYER}.layer_scale{{n}}.lambda1",)),
        both(f"{place}.norm", f"{_HF}.norm"),
    )


def _conv_norm(source: str, norm: str, target: str) -> tuple[NameRule, ...]:
    return (
        NameRule(f"{source}.weight", (f"{target}.conv.weight",)),
        NameRule(f"{norm}.{{bn}}", (f"{target}.norm.{{bn}}",)),
    )


_ADAPTER = f"{PLACE}.spatial_tuning_adapter"
DINOV3_RULES = (
    *_vit_rules(SMALL),
    *_vit_rules(DINOV3),
    *_conv_norm("backbone.sta.stem.0", "backbone.sta.stem.1", f"{_ADAPTER}.stem_conv"),
    *_conv_norm("backbone.sta.conv2.0", "backbone.sta.conv2.1", f"{_ADAPTER}.conv2"),
    *_conv_norm("backbone.sta.conv3.1", "backbone.sta.conv3.2", f"{_ADAPTER}.conv3"),
    *_conv_norm("backbone.sta.conv4.1", "backbone.sta.conv4.2", f"{_ADAPTER}.conv4"),
    *_conv_norm("backbone.convs.{i}", "backbone.norms.{i}", f"{PLACE}.fusion_proj.{{i}}"),
)
DROPPED = (f"{DINOV3}.mask_token", f"{DINOV3}.blocks.{{layer}}.attn.qkv.bias_mask")


def dinov3_config(told: Told) -> dict[str, Any]:
    """Settings of the backbone and of the pyramid."""
    place = SMALL if f"{SMALL}.cls_token" in told else DINOV3
    if "backbone.sta.stem.0.weight" not in told:
        raise UserError(
            f"{told.checkpoint} has no convolutions beside its DINOv3 (use_sta: False), without "
            "which transformers has no model"
        )
    width, _, patch, _ = told.shape(f"{place}.patch_embed.proj.weight", 4)
    if patch != PATCH:
        raise UserError(f"patches of {patch} pixels; expected {PATCH}")
    blocks = told.count(f"{place}.blocks")
    gated = f"{place}.blocks.0.mlp.w1.weight" in told
    # A head has four channels to a period.
    channels = 4 * told.shape(f"{place}.rope_embed.periods", 1)[0]
    if width % channels:
        raise UserError(f"heads of {channels} channels do not divide {width}")
    taken = TAKEN[place]
    if blocks < taken[-1]:
        raise UserError(
            f"{told.checkpoint} has {blocks} blocks in the backbone; expected {taken[-1]}, as "
            "published models have"
        )
    told.assumed.append(
        f"features of blocks {', '.join(str(one - 1) for one in taken)}, from 0 on "
        "(interaction_indexes)"
    )
    if place == DINOV3:
        _expect_masked_keys(told, blocks, width)
    return {
        "backbone_config": {
            "model_type": "dinov3_vit",
            "patch_size": PATCH,
            "hidden_size": width,
            "intermediate_size": told.rows(
                f"{place}.blocks.0.mlp.{'w1' if gated else 'fc1'}.weight"
            ),
            "use_gated_mlp": gated,
            "hidden_act": "silu" if gated else "gelu",
            "num_hidden_layers": blocks,
            "num_attention_heads": width // channels,
            "key_bias": place == SMALL,
            "layer_norm_eps": LAYER_NORM_EPS[place],
            "num_register_tokens": (
                0 if place == SMALL else told.shape(f"{place}.storage_tokens", 3)[1]
            ),
            "apply_layernorm": place == DINOV3,
            "pos_embed_rescale": None if place == SMALL else 2.0,
            "out_features": [f"stage{one}" for one in taken],
        },
        "spatial_tuning_adapter_inplanes": told.rows("backbone.sta.stem.0.weight", 4),
    }


def _expect_masked_keys(told: Told, blocks: int, width: int) -> None:
    import torch  # by which no command that needs none waits

    expected = torch.ones(3, width)
    expected[1] = 0
    for i in range(blocks):
        name = f"{DINOV3}.blocks.{i}.attn.qkv.bias_mask"
        if name not in told or not torch.equal(
            told.checkpoint.read(name).float(), expected.flatten()
        ):
            raise UserError(f'"{name}" does not mask the biases of the keys alone, as published')
