"""From MMDetection's test pipeline to a Hugging Face image processor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import image_processor
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings

# Steps that do nothing to an image.
LOADING = {"LoadImageFromFile", "LoadImageFromNDArray", "LoadAnnotations", "PackDetInputs"}


@dataclass(frozen=True)
class Colors:
    """Mean and standard deviation of red, green and blue, which go from 0 to 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def processor(pipeline: Sequence[Any], name: str, colors: Colors) -> dict[str, Any]:
    """``name`` is the image processor's. Raises ``UserError`` for a step that it does not have."""
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
    mean, std = ([value / 255 for value in one] for one in (colors.mean, colors.std))
    return image_processor(name, size, mean, std)


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


def pipeline_of(
    settings: Mapping[str, Any],
    place: str = "test_dataloader.dataset.pipeline",
    called: str = "test_pipeline",
) -> Sequence[Any]:
    """The steps for test images of a whole configuration, which has them at ``place``, or as
    ``test_pipeline``."""
    steps: Any = settings
    for key in place.split("."):
        steps = steps.get(key) if isinstance(steps, Mapping) else None
    steps = steps or settings.get("test_pipeline")
    if not isinstance(steps, list):
        raise UserError(f"the file's configuration has no {called}")
    return steps
