"""A torchvision detector's training, by the model's own losses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.training import ImagesByNumber
from detector.data.dataset import Dataset


class TorchvisionTraining(ImagesByNumber):
    """The model's own losses; which layers training left frozen, no file tells."""

    def __init__(
        self, adapter: Adapter, dataset: Dataset, options: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        """Raises ``UserError`` for a model that boxes alone do not train."""
        heads = getattr(adapter.module, "roi_heads", nn.Module())
        for name, _ in heads.named_children():
            if name.startswith(("mask_", "keypoint_")):
                raise UserError(
                    f"{type(adapter.module).__name__} has a {name}, which boxes do not train; "
                    "gradients are of detectors of boxes alone"
                )
        super().__init__(adapter, dataset, options, device)

    def losses(self, batch: list[int], index: int) -> tuple[Tensor, dict[str, Tensor]]:
        images = [self.dataset.image(i) for i in batch]
        tensors = [torch.tensor(one).permute(2, 0, 1).to(self.device) / 255 for one in images]
        terms = self.model(tensors, [self._target(i) for i in batch])
        return sum(terms.values(), torch.zeros((), device=self.device)), dict(terms)

    def _target(self, i: int) -> dict[str, Tensor]:
        """The image's objects, without those that have no area, which the models refuse."""
        objects = self.dataset.annotations(i)
        boxes = np.asarray(objects.boxes, dtype=np.float32).reshape(-1, 4)
        kept = [
            k
            for k, (box, label, ignore) in enumerate(
                zip(boxes, objects.labels, objects.ignore, strict=True)
            )
            if not ignore and int(label) in self.label_of and (box[2:] > box[:2]).all()
        ]
        labels = [self.label_of[int(objects.labels[k])] for k in kept]
        return {
            "boxes": torch.tensor(boxes[kept]).to(self.device),
            "labels": torch.tensor(labels, dtype=torch.int64, device=self.device),
        }
