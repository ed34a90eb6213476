"""A Hugging Face detector's training, by the model's own loss."""

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import (
    TransformersAdapter,
    check_classes,
)
from ablate_kit.models.training import ImagesByNumber
from detector.data.dataset import Dataset


class TransformersTraining(ImagesByNumber):
    """The folder's own preprocessing and the model's own loss."""

    def __init__(
        self,
        adapter: TransformersAdapter,
        dataset: Dataset,
        options: Mapping[str, Any],
        device: str = "cpu",
    ) -> None:
        check_classes(adapter, "training")
        super().__init__(adapter, dataset, options, device)
        self.processor = adapter.processor

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
