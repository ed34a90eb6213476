"""A torchvision detector's training, by the model's own losses."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.classes import match_classes
from ablate_kit.models.training import shuffled
from detector.data.dataset import Dataset

WEIGHT_DECAY = 1e-4  # as torchvision's training script has it


class TorchvisionTraining:
    """AdamW over all parameters: which layers training left frozen, no file tells."""

    accumulate = 1

    def __init__(
        self, adapter: Adapter, dataset: Dataset, options: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        """Raises ``UserError`` for a model that boxes alone do not train."""
        self.model: nn.Module = adapter.module
        heads = getattr(self.model, "roi_heads", nn.Module())
        for name, _ in heads.named_children():
            if name.startswith(("mask_", "keypoint_")):
                raise UserError(
                    f"{type(self.model).__name__} has a {name}, which boxes do not train; "
                    "gradients are of detectors of boxes alone"
                )
        self.dataset, self.device = dataset, device
        self.batch_size, self.seed = int(options["batch_size"]), int(options["seed"])
        shuffled(len(dataset), self.batch_size, self.seed)  # refuses too few
        matched = match_classes(adapter.classes, dataset.classes)
        self.label_of = {int(data): model for model, data in enumerate(matched) if data >= 0}
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=False)
        trained = [one for one in self.model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=float(options["lr"]), weight_decay=WEIGHT_DECAY
        )

    def batches(self) -> Iterator[list[int]]:
        return shuffled(len(self.dataset), self.batch_size, self.seed)

    def losses(self, batch: list[int], index: int) -> tuple[Tensor, dict[str, Tensor]]:
        images = [self.dataset.image(i) for i in batch]
        tensors = [torch.tensor(one).permute(2, 0, 1).to(self.device) / 255 for one in images]
        terms = self.model(tensors, [self._target(i) for i in batch])
        return sum(terms.values(), torch.zeros((), device=self.device)), dict(terms)

    def clip(self) -> None:
        """torchvision's training script does not clip."""

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
