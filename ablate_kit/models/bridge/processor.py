"""From MMDetection's test pipeline to a Hugging Face image processor."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.architecture import Architecture
from ablate_kit.models.bridge.settings import Settings

# Steps that do nothing to an image.
LOADING = {"LoadImageFromFile", "LoadImageFromNDArray", "LoadAnnotations", "PackDetInputs"}


def processor(pipeline: Sequence[Any], model: Architecture) -> dict[str, Any]:
    """Raises ``UserError`` for a step that the image processor does not have."""
    size = None
    for i, values in enumerate(pipeline):
        step = Settings(values, f"test_pipeline.{i}")
        kind = str(step.take("type")).rpartition(".")[2]
        if kind in LOADING:
            continue
        if kind != "Resize" or size:
            raise UserError(
                f"{step.path} is {kind}, which the image processor of transformers does not do; "
                "expected at most one Resize"
            )
        size = _size(step)
    return {
        "image_processor_type": model.processor,
        "do_resize": size is not None,
        "size": size or {"shortest_edge": 800, "longest_edge": 1333},
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in model.colors.mean],
        "image_std": [value / 255 for value in model.colors.std],
        "do_pad": True,
        "format": "coco_detection",
        "do_convert_annotations": True,
    }


def _size(step: Settings) -> Mapping[str, int]:
    scale = step.take("scale")
    keep = step.must("keep_ratio", True, False, default=False)
    step.must("interpolation", "bilinear", default="bilinear")
    step.must("scale_factor", None, default=None)
    step.ignore("backend", "clip_object_border")
    step.close()
    if not (isinstance(scale, list) and len(scale) == 2 and all(type(n) is int for n in scale)):
        raise UserError(f"{step.path}.scale is {scale!r}; expected width and height")
    if keep:
        return {"shortest_edge": min(scale), "longest_edge": max(scale)}
    return {"height": scale[1], "width": scale[0]}


def test_pipeline(settings: Mapping[str, Any]) -> Sequence[Any]:
    """The steps for test images of a whole configuration."""
    loader = settings.get("test_dataloader")
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    steps = dataset.get("pipeline") if isinstance(dataset, Mapping) else None
    steps = steps or settings.get("test_pipeline")
    if not isinstance(steps, list):
        raise UserError("the file's configuration has no test_pipeline")
    return steps
