"""Adapter for Hugging Face object detectors."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.frameworks.forward import ForwardPasses
from ablate_kit.models.frameworks.hugging_face.numbered_queries import NumberedQueries, Result
from ablate_kit.models.frameworks.hugging_face.soft_nms import soft_nms_of
from ablate_kit.models.image_detections import ImageDetections
from detector.data.dataset import Pixels
from detector.fetch import fetched


class TransformersAdapter:
    def __init__(
        self, module: Any, processor: Any, live: Mapping[str, tuple[str, ...]], device: str
    ) -> None:
        self.module = module.to(device).eval()
        self.processor = processor
        self.device = device
        names = module.config.id2label
        self.classes = tuple(names.get(i, f"LABEL_{i}") for i in range(max(names) + 1))
        self._live = live
        self._soft_nms = soft_nms_of(module.config)
        self._queries = NumberedQueries()
        self._passes = ForwardPasses("the model", "its image processor makes them")

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        return self._live

    def same_model(self, other: object) -> bool:
        return isinstance(other, TransformersAdapter) and _description(self) == _description(other)

    def prepare(self, image: Pixels) -> Prepared:
        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt")
        return Prepared(dict(inputs), image.shape[:2])

    def preparation(self) -> Mapping[str, Any] | None:
        kind, library = type(self.processor), version("transformers")
        if type(self) is not TransformersAdapter or not kind.__module__.startswith("transformers."):
            return None  # it adds something of its own, or is a folder's own code
        named = f"transformers {library} {kind.__module__}.{kind.__qualname__}"
        return {"processor": named, "settings": self.processor.to_json_string()}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        placed = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with self._passes.on(inputs["pixel_values"]):
            return self.module(**placed)

    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = MAX_DETECTIONS
    ) -> list[ImageDetections]:
        soft_nms = self._soft_nms
        if soft_nms:
            limit = soft_nms.candidates
        process = _with_enough(self.processor.post_process_object_detection, limit)
        if not (hasattr(outputs, "logits") and hasattr(outputs, "pred_boxes")):
            raise UserError(
                f"{type(self.module).__name__} gives no boxes and logits of queries "
                "(pred_boxes, logits), which a detector is read by"
            )
        # The library chooses by masks, image by image, each of which waits for the device.
        logits, boxes = fetched([outputs.logits, outputs.pred_boxes])

        def read(boxes: torch.Tensor, sizes: Sequence[tuple[int, int]]) -> list[Result]:
            of_boxes = type(outputs)(**{**outputs, "logits": logits, "pred_boxes": boxes})
            found: list[Result] = process(of_boxes, threshold=0.0, target_sizes=list(sizes))
            return found

        try:
            if boxes.shape[-1] != 4:  # polygons: which point is which is its own business
                return [_detections(result) for result in read(boxes, origins)]
            results = self._queries.read(read, boxes, origins)
        except ImportError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{type(self.processor).__name__} does not work here: {reason}"
            ) from None
        if soft_nms:
            results = [
                soft_nms(result, *origin) for result, origin in zip(results, origins, strict=True)
            ]
        return [_detections(result) for result in results]


def _with_enough(process: Any, limit: int) -> Any:
    """Some processors give the best 100 detections unless they are asked for more."""
    best = inspect.signature(process).parameters.get("top_k")
    if best is None or not isinstance(best.default, int) or best.default >= limit:
        return process
    return partial(process, top_k=limit)


def _description(adapter: TransformersAdapter) -> tuple[Any, ...]:
    """All that a detector is made from but its weights."""
    kind = type(adapter.module)
    config = adapter.module.config.to_dict()
    config.pop("_name_or_path", None)
    # A folder's own code is imported anew from each copy of the folder.
    code = inspect.getsource(inspect.getmodule(kind) or kind)
    return kind.__qualname__, code, config, adapter.processor.to_dict()


def _detections(result: Mapping[str, torch.Tensor]) -> ImageDetections:
    return ImageDetections.of_tensors(
        result["boxes"], result["scores"], result["labels"], result.get("queries")
    )


def check_classes(adapter: TransformersAdapter, what: str) -> None:
    """Raises ``UserError`` where a detector finds what a text names, which ``what`` is not for."""
    if type(adapter) is not TransformersAdapter:
        raise UserError(
            f"{what} is for detectors of classes of their own; {type(adapter.module).__name__} "
            "finds what a text names"
        )
