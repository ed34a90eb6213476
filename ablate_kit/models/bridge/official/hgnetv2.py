"""D-FINE's HGNetV2, and Hugging Face's."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.name_rules import NameRule
from ablate_kit.models.bridge.official.hybrid_encoder import conv_norm
from ablate_kit.models.bridge.official.told_by_file import Told

STEM, STAGES = "backbone.stem", "backbone.stages"
_STEMS = ("stem1", "stem2a", "stem2b", "stem3", "stem4")
_BLOCK = "stages.{stage}.blocks.{block}"


def _conv_norm(source: str, target: str) -> tuple[NameRule, ...]:
    """A convolution, its batch norm, and the learnt scale and bias that some have behind it."""
    names, target_names = ("conv", "bn"), ("convolution", "normalization")
    return (
        *conv_norm(source, target, names, target_names),
        *(NameRule(f"{source}.lab.{one}", (f"{target}.lab.{one}",)) for one in ("scale", "bias")),
    )


def hgnetv2_rules(place: str) -> tuple[NameRule, ...]:
    """``place``: of the backbone in the Hugging Face model."""
    parts = {f"{STEM}.{stem}": f"embedder.{stem}" for stem in _STEMS} | {
        f"backbone.{part}": f"encoder.{part}"
        for part in (
            "stages.{stage}.downsample",
            f"{_BLOCK}.layers.{{layer}}",
            f"{_BLOCK}.layers.{{layer}}.conv{{c}}",  # of light blocks
            f"{_BLOCK}.aggregation.{{a}}",
        )
    }
    return tuple(
        rule for source, target in parts.items() for rule in _conv_norm(source, f"{place}.{target}")
    )


def hgnetv2_config(told: Told) -> dict[str, Any]:
    if f"{STEM}.stem1.conv.weight" not in told:
        raise UserError(
            f"{told.checkpoint} has another backbone than HGNetV2, the only one whose counterpart "
            "in transformers is known"
        )
    numbers = range(told.count(STAGES))
    light, first, outputs = [], [], []
    for i in numbers:
        layer = f"{STAGES}.{i}.blocks.0.layers.0"
        light.append(f"{layer}.conv1.conv.weight" in told)
        begin, end = ("conv1.conv", "conv2.conv") if light[-1] else ("conv", "conv")
        middle, inputs = told.shape(f"{layer}.{begin}.weight", 4)[:2]
        kernel = told.shape(f"{layer}.{end}.weight", 4)[2]
        first.append((inputs, middle, kernel))
        outputs.append(told.rows(f"{STAGES}.{i}.blocks.0.aggregation.1.conv.weight", 4))
    blocks = [told.count(f"{STAGES}.{i}.blocks") for i in numbers]
    stem = told.rows(f"{STEM}.stem4.conv.weight", 4)
    return {
        "model_type": "hgnet_v2",
        "embedding_size": stem,
        "stem_channels": [3, told.rows(f"{STEM}.stem1.conv.weight", 4), stem],
        "hidden_sizes": outputs,
        "depths": blocks,
        "stage_in_channels": [inputs for inputs, _, _ in first],
        "stage_mid_channels": [middle for _, middle, _ in first],
        "stage_out_channels": outputs,
        "stage_num_blocks": blocks,
        "stage_downsample": [f"{STAGES}.{i}.downsample.conv.weight" in told for i in numbers],
        "stage_light_block": light,
        "stage_kernel_size": [kernel for _, _, kernel in first],
        "stage_numb_of_layers": [told.count(f"{STAGES}.{i}.blocks.0.layers") for i in numbers],
        "use_learnable_affine_block": f"{STEM}.stem1.lab.scale" in told,
        "hidden_act": "relu",
    }
