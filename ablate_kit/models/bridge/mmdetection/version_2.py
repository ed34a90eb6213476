"""A configuration of MMDetection 2, as version 3 says it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.bridge.mmdetection.image_pipeline import pipeline_of
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings

_PIPELINE = "data.test.pipeline"
_NOTHING = ("RandomFlip", "ImageToTensor", "DefaultFormatBundle", "Collect")  # to a test image


def co_detr_as_version_3(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Of a Co-DETR; raises ``UserError`` where it prepares images as version 3 does not."""
    model = dict(whole["model"])
    model["use_lsj"] = not model.pop("with_attn_mask", True)
    head, of_heads = model.get("query_head"), model.get("test_cfg")
    if isinstance(head, Mapping) and isinstance(of_heads, list) and of_heads:
        first = of_heads[0]
        if isinstance(first, Mapping) and first.get("nms") is not None:
            # Here that is how many are kept of so many that are held against each other.
            queries = Settings(head, "model.query_head").count("num_query", 900)
            settings = Settings(first, "model.test_cfg.0")
            if (kept := settings.count("max_per_img", queries)) < min(MAX_DETECTIONS, queries):
                raise settings.refused("max_per_img", kept, (MAX_DETECTIONS,))
            model["test_cfg"] = [{**first, "max_per_img": queries}, *of_heads[1:]]
    pipeline, model["data_preprocessor"] = _preparation(
        pipeline_of(whole, _PIPELINE, called=_PIPELINE)
    )
    return {"model": model, "test_pipeline": pipeline}


def _preparation(steps: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The steps of version 3, and its ``data_preprocessor``."""
    pipeline: list[dict[str, Any]] = []
    colors: dict[str, Any] = {"type": "DetDataPreprocessor"}
    for i, values in enumerate(steps):
        step = Settings(values, f"{_PIPELINE}.{i}")
        if step.take("type") != "MultiScaleFlipAug":
            pipeline.append(values)
            continue
        step.must("flip", False, default=False)
        scale = step.take("img_scale")
        inner = step.take("transforms")
        step.close()
        for j, one in enumerate(inner if isinstance(inner, list) else []):
            part = Settings(one, f"{step.path}.transforms.{j}")
            kind = part.take("type")
            if kind == "Resize":
                pipeline.append({"scale": scale, **one})
            elif kind == "Normalize":
                colors |= {"mean": part.take("mean"), "std": part.take("std")}
                colors["bgr_to_rgb"] = part.take("to_rgb", True)
                part.close()
            elif kind == "Pad":
                colors["pad_size_divisor"] = part.must("size_divisor", 1, default=None)
                part.close()
            elif kind not in _NOTHING:
                pipeline.append(one)  # which is refused there
    if "mean" not in colors:
        raise UserError(f"{_PIPELINE} of the configuration normalizes no colors")
    return pipeline, colors
