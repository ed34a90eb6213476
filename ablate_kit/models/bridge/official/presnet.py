"""RT-DETR's ResNet ("PResNet", of variant d), and Hugging Face's."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.official.hybrid_encoder import conv_norm
from ablate_kit.models.bridge.official.told_by_file import Told

STEM, STAGES = "backbone.conv1", "backbone.res_layers"
HF = "model.backbone.model"
_NAMES = ("convolution", "normalization")
_BLOCK = f"{STAGES}.{{stage}}.blocks.{{block}}"
_HF_BLOCK = f"{HF}.encoder.stages.{{stage}}.layers.{{block}}"

PRESNET_RULES = (
    *conv_norm(f"{STEM}.conv1_{{n+1}}", f"{HF}.embedder.embedder.{{n}}", target_names=_NAMES),
    *(
        rule
        for i, branch in enumerate("abc")
        for rule in conv_norm(
            f"{_BLOCK}.branch2{branch}", f"{_HF_BLOCK}.layer.{i}", target_names=_NAMES
        )
    ),
    *conv_norm(f"{_BLOCK}.short", f"{_HF_BLOCK}.shortcut", target_names=_NAMES),
    # Behind a pooling, in stages that halve the map.
    *conv_norm(f"{_BLOCK}.short.conv", f"{_HF_BLOCK}.shortcut.1", target_names=_NAMES),
)


def presnet_config(told: Told) -> dict[str, Any]:
    if f"{STEM}.conv1_1.conv.weight" not in told:
        raise UserError(
            f"{told.checkpoint} has another backbone than RT-DETR's ResNet (PResNet), the only one "
            "whose counterpart in transformers is known"
        )
    for name in (f"{STEM}.conv1_3", f"{STAGES}.1.blocks.0.short.conv"):
        if f"{name}.conv.weight" not in told:
            raise UserError(
                f"{told.checkpoint} has no {name}: its ResNet is not of variant d, the only one "
                "that transformers has for RT-DETR"
            )
    bottleneck = f"{STAGES}.0.blocks.0.branch2c.conv.weight" in told
    last = "branch2c" if bottleneck else "branch2b"
    stages = range(told.count(STAGES))
    return {
        "model_type": "rt_detr_resnet",
        "embedding_size": told.rows(f"{STEM}.conv1_3.conv.weight", 4),
        "hidden_sizes": [told.rows(f"{STAGES}.{i}.blocks.0.{last}.conv.weight", 4) for i in stages],
        "depths": [told.count(f"{STAGES}.{i}.blocks") for i in stages],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "hidden_act": "relu",
    }
