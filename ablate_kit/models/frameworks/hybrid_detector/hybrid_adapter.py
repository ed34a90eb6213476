"""Adapter for the hybrid detector, and for checkpoints of the notebooks it comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.frameworks import misfit
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.unsupported.number_types import check_number_types
from detector.config import HybridConfig
from detector.data.augmentation.letterbox import GRAY, MEAN_COLOR, letterbox, normalize
from detector.data.dataset import Pixels
from detector.data.formats import voc_xml
from detector.network import legacy
from detector.network.decode import decode
from detector.network.model import HybridDetector, Predictions


class HybridAdapter:
    def __init__(
        self,
        module: HybridDetector,
        classes: tuple[str, ...],
        live: Mapping[str, tuple[str, ...]],
        device: str = "cpu",
    ) -> None:
        self.module = module.to(device).eval()
        self.classes = classes
        self.device = device
        self._live = live

    @staticmethod
    def open(checkpoint: Checkpoint, device: str = "cpu") -> "HybridAdapter":
        """Builds the model that a checkpoint's config names and fills it, strictly."""
        if not is_hybrid(checkpoint):
            raise UserError(f"{checkpoint} is not a hybrid detector")
        config, live = config_and_names(checkpoint)
        module = HybridDetector(config)
        _check(checkpoint, module, live)
        module.load_state_dict({live[name]: checkpoint.read(name) for name in live})
        classes = checkpoint.classes or class_names(config.num_classes)
        if len(classes) != config.num_classes:
            raise UserError(
                f"{checkpoint.path} names {len(classes)} classes for {config.num_classes} outputs"
            )
        return HybridAdapter(module, classes, {k: (v,) for k, v in live.items()}, device)

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._live

    def same_model(self, other: object) -> bool:
        return (
            isinstance(other, HybridAdapter)
            and self.module.config == other.module.config
            and self.classes == other.classes
        )

    def prepare(self, image: Pixels) -> Prepared:
        config = self.module.config
        fill = MEAN_COLOR if config.pad_color == "mean" else GRAY
        square, placement = letterbox(image, config.image_size, fill)
        return Prepared({"images": normalize(square[None])}, placement)

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Predictions:
        return self.module(inputs["images"].to(self.device))

    def decode(
        self, outputs: Predictions, origins: Sequence[Any], limit: int = MAX_DETECTIONS
    ) -> list[ImageDetections]:
        config = self.module.config
        decoded = decode(
            outputs, top_k=limit, background_gate=config.background_gate, iou_gamma=config.iou_gamma
        )
        found = []
        for placement, one in zip(origins, decoded, strict=True):
            boxes = placement.to_original(one.boxes.double().numpy())
            scores = one.scores.double().numpy()
            found.append(ImageDetections(boxes, scores, one.labels.numpy(), one.queries.numpy()))
        return found


def is_hybrid(checkpoint: Checkpoint) -> bool:
    """Whether this is a checkpoint of the hybrid detector or of the notebooks."""
    return legacy.is_legacy(checkpoint.tensors) or "backbone.stage0.0.conv.weight" in (
        checkpoint.tensors
    )


def config_and_names(checkpoint: Checkpoint) -> tuple[HybridConfig, dict[str, str]]:
    """The config, and for each tensor of the file its name in the model."""
    shapes = checkpoint.shapes
    if legacy.is_legacy(shapes):
        config = legacy.infer_config(shapes)
        return config, legacy.to_ours(shapes, config)
    if checkpoint.config is None:
        raise UserError(
            f"{checkpoint.path} carries no config of the hybrid detector; expected its settings "
            'under the key "config" beside the weights, as ablate train writes them'
        )
    return HybridConfig.from_dict(checkpoint.config), {name: name for name in shapes}


def _check(checkpoint: Checkpoint, module: HybridDetector, live: Mapping[str, str]) -> None:
    """Refuses a file that does not fit, naming the first tensor at odds."""
    check_number_types(checkpoint)
    named = {ours: name for name, ours in live.items()}  # as the file has them
    here = {named.get(ours, ours): shape for ours, shape in misfit.shapes_of(module).items()}
    there = {name: checkpoint.tensors[name].shape for name in live}
    missing, unexpected = sorted(here.keys() - there.keys()), sorted(there.keys() - here.keys())
    if said := misfit.of_shapes(there, here) or misfit.of_names(missing, unexpected):
        raise UserError(f"{checkpoint.path}: {said}")


def class_names(count: int) -> tuple[str, ...]:
    """Names for a checkpoint that has none: the notebooks' classes are those of VOC."""
    if count == len(voc_xml.CLASSES):
        return voc_xml.CLASSES
    return tuple(f"class_{i}" for i in range(count))
