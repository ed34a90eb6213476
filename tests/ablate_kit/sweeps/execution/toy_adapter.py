"""Any module as an adapter."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections


class Toy:
    """Its detections are the module's outputs."""

    classes = ("thing",)

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return {name: (name,) for name in self.module.state_dict()}

    def same_model(self, other: Adapter) -> bool:
        return self is other

    def prepare(self, image: Any) -> Prepared:
        return Prepared({"x": torch.as_tensor(image)}, None)

    def forward(self, inputs: Mapping[str, Tensor]) -> Any:
        return self.module(inputs["x"])

    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = 100
    ) -> list[ImageDetections]:
        return [outputs for _ in origins]
