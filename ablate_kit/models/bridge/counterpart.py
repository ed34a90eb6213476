"""What is needed to write a checkpoint as a Hugging Face folder that computes the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate_kit.models.bridge.name_rules import NameRule


@dataclass(frozen=True)
class Counterpart:
    """The Hugging Face model of a checkpoint.

    Attributes:
        config: its ``config.json``.
        processor: its ``preprocessor_config.json``.
        rules: where each tensor goes.
        dropped: patterns of tensors that compute nothing.
        biases: tensors that the checkpoint lacks: zeros, by name and length.
        assumed: what the checkpoint does not tell, in words.
    """

    config: Mapping[str, Any]
    processor: Mapping[str, Any]
    rules: tuple[NameRule, ...]
    dropped: tuple[str, ...]
    biases: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


def detector_config(model: str, kind: str, classes: Sequence[str]) -> dict[str, Any]:
    """What the configurations of all detectors say.

    Args:
        model: its name in transformers' class names, such as "Detr".
        kind: the ``model_type``.
        classes: by number of the output.
    """
    return {
        "architectures": [f"{model}ForObjectDetection"],
        "model_type": kind,
        "dtype": "float32",
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "label2id": {name: i for i, name in enumerate(classes)},
    }


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_processor(
    kind: str,
    size: Mapping[str, int] | None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> dict[str, Any]:
    """Settings of an image processor of DETR's kind; without ``size`` images stay as they are.

    ``mean`` and ``std`` are of red, green and blue from 0 to 1.
    """
    return {
        "image_processor_type": kind,
        "do_resize": size is not None,
        "size": size or {"shortest_edge": 800, "longest_edge": 1333},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "do_pad": True,
        "format": "coco_detection",
        "do_convert_annotations": True,
    }
