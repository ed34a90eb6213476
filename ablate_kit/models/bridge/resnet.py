"""torchvision's ResNet, as DETR's descendants have it, and Hugging Face's."""

from collections.abc import Iterable, Sequence
from typing import Any

from ablate_kit.models.bridge.name_rules import NameRule

_HF = "model.backbone.conv_encoder.model"
_BLOCK = _HF + ".encoder.stages.{stage}.layers.{block}"


def resnet_rules(source: str) -> tuple[NameRule, ...]:
    """``source`` is where the network lies in the file, such as ``backbone``."""
    block = f"{source}.layer{{stage+1}}.{{block}}"
    return (
        NameRule(f"{source}.conv1.weight", (f"{_HF}.embedder.embedder.convolution.weight",)),
        NameRule(f"{source}.bn1.{{norm}}", (f"{_HF}.embedder.embedder.normalization.{{norm}}",)),
        NameRule(
            f"{block}.conv{{conv+1}}.weight", (f"{_BLOCK}.layer.{{conv}}.convolution.weight",)
        ),
        NameRule(
            f"{block}.bn{{conv+1}}.{{norm}}", (f"{_BLOCK}.layer.{{conv}}.normalization.{{norm}}",)
        ),
        NameRule(f"{block}.downsample.0.weight", (f"{_BLOCK}.shortcut.convolution.weight",)),
        NameRule(f"{block}.downsample.1.{{norm}}", (f"{_BLOCK}.shortcut.normalization.{{norm}}",)),
    )


def detectron2_resnet_rules(source: str) -> tuple[NameRule, ...]:
    """As Detectron2 names it; ``source`` as above."""
    block, stem = f"{source}.res{{stage+2}}.{{block}}", f"{_HF}.embedder.embedder"
    places = (
        (f"{source}.stem.conv1", stem),
        (f"{block}.conv{{conv+1}}", f"{_BLOCK}.layer.{{conv}}"),
        (f"{block}.shortcut", f"{_BLOCK}.shortcut"),
    )
    return tuple(
        rule
        for name, target in places
        for rule in (
            NameRule(f"{name}.weight", (f"{target}.convolution.weight",)),
            NameRule(f"{name}.norm.{{norm}}", (f"{target}.normalization.{{norm}}",)),
        )
    )


def resnet_counters(source: str) -> tuple[str, ...]:
    """Tensors of training alone: how many batches each norm has seen."""
    block = f"{source}.layer{{stage}}.{{block}}"
    norms = (f"{source}.bn1", f"{block}.bn{{conv}}", f"{block}.downsample.1")
    return tuple(f"{name}.num_batches_tracked" for name in norms)


def resnet_config(
    layer: str,
    depths: Sequence[int],
    *,
    base: int,
    stem: int,
    stages: Iterable[int],
    stride_first: bool = False,
) -> dict[str, Any]:
    """Hugging Face's configuration.

    Args:
        layer: the kind of block, "basic" or "bottleneck".
        depths: blocks of each of the four stages.
        base: channels inside the first stage's blocks.
        stem: channels of the first convolution.
        stages: those that are handed on, from 0.
        stride_first: whether a bottleneck's stride is in its first convolution (Caffe's ResNet).
    """
    expansion = 4 if layer == "bottleneck" else 1
    return {
        "model_type": "resnet",
        "embedding_size": stem,
        "hidden_sizes": [base * expansion * 2**stage for stage in range(4)],
        "depths": list(depths),
        "layer_type": layer,
        "hidden_act": "relu",
        "downsample_in_bottleneck": stride_first and layer == "bottleneck",
        "out_features": [f"stage{stage + 1}" for stage in stages],
    }
