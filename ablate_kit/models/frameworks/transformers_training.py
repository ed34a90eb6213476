"""A Hugging Face detector's training, by the model's own loss."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.classes import match_classes
from ablate_kit.models.frameworks.transformers_adapter import TransformersAdapter
from ablate_kit.models.training import shuffled
from detector.data.dataset import Dataset

WEIGHT_DECAY = 1e-4  # as the DETR family is trained


class TransformersTraining:
    """The folder's own preprocessing and the model's own loss, AdamW over all parameters."""

    accumulate = 1

    def __init__(
        self,
        adapter: TransformersAdapter,
        dataset: Dataset,
        *,
        batch_size: int,
        lr: float,
        seed: int,
        device: str = "cpu",
    ) -> None:
        shuffled(len(dataset), batch_size, seed)  # refuses too few
        self.model = adapter.module
        self.processor = adapter.processor
        self.device = device
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        matched = match_classes(adapter.classes, dataset.classes)
        self.label_of = {int(data): model for model, data in enumerate(matched) if data >= 0}
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=WEIGHT_DECAY)

    def batches(self) -> Iterator[list[int]]:
        return shuffled(len(self.dataset), self.batch_size, self.seed)

    def losses(self, batch: list[int], index: int) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            inputs = self.processor(
                images=[Image.fromarray(self.dataset.image(i)) for i in batch],
                annotations=[self._annotations(i) for i in batch],
                return_tensors="pt",
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the model's preprocessing cannot batch these images ({reason}); "
                "try --batch-size 1"
            ) from None
        labels = [{k: v.to(self.device) for k, v in one.items()} for one in inputs.pop("labels")]
        placed: dict[str, Any] = {k: v.to(self.device) for k, v in inputs.items()}
        out = self.model(**placed, labels=labels)
        terms = {k: v for k, v in (out.loss_dict or {}).items() if isinstance(v, Tensor)}
        return out.loss, terms

    def clip(self) -> None:
        """A Hugging Face checkpoint does not say how it is to be clipped."""

    def _annotations(self, i: int) -> dict[str, Any]:
        """The image's objects in COCO's form, in which every processor takes them."""
        objects = self.dataset.annotations(i)
        found = []
        for box, label, area, ignore in zip(
            objects.boxes, objects.labels, objects.areas, objects.ignore, strict=True
        ):
            if not ignore and int(label) in self.label_of:
                x0, y0, x1, y1 = box.tolist()
                found.append(
                    {
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "category_id": self.label_of[int(label)],
                        "area": float(area),
                        "iscrowd": 0,
                    }
                )
        return {"image_id": i, "annotations": found}
