"""Models of detrex, which builds on Detectron2, and of a project of MMDetection."""

import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from PIL import Image

from official_code.built import Official, Seen, all_alike, imported, seen

SHORTEST, LONGEST = 800, 1333


def detrex(clone: Path) -> Iterator[Official]:
    """https://github.com/IDEA-Research/detrex, beside an installed Detectron2; without what trains
    it, and with its own sampling in Python. Images are as large as transformers makes them."""
    from detectron2.config import LazyConfig, instantiate
    from detectron2.data.transforms import ResizeTransform

    for name in ("detrex", "detrex.modeling"):  # parts, without the whole
        _bare(clone, name)
    sys.modules["detrex._C"] = types.ModuleType("detrex._C")
    absent = ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint", "timm", "timm.models")
    sys.modules |= {name: MagicMock() for name in absent}
    layers: Any = types.ModuleType("timm.models.layers")
    layers.DropPath = lambda rate: torch.nn.Identity()
    sys.modules["timm.models.layers"] = layers
    for name, config, levels, depth in (
        ("DINO-4scale of detrex", "r50", 4, 50),
        ("DINO-5scale of detrex", "r50", 5, 50),
        ("DINO-4scale of detrex, R101", "r50", 4, 101),
        ("DINO-4scale of detrex, Swin-T", "swin_tiny_224", 4, None),
    ):
        path = clone / "projects" / "dino" / "configs" / "models" / f"dino_{config}.py"
        settings = LazyConfig.load(str(path)).model
        settings.device = "cpu"
        settings.criterion = None
        if depth:
            settings.backbone.stages.depth = depth
        if levels == 5:
            _five_levels(settings)
        torch.manual_seed(0)
        module: Any = instantiate(settings)

        def prepared(image: Image.Image) -> dict[str, Any]:
            width, height = _size(image)
            resize = ResizeTransform(
                image.height, image.width, height, width, Image.Resampling.BILINEAR
            )
            pixels = torch.as_tensor(resize.apply_image(np.asarray(image)).copy())
            return {
                "image": pixels.permute(2, 0, 1), "height": image.height, "width": image.width
            }  # fmt: skip

        def see(images: Sequence[Image.Image], module: Any = module) -> list[Seen]:
            told = [prepared(one) for one in images]
            out: dict[str, Any] = {}

            def note(logits: Any, boxes: Any, sizes: Any) -> Any:
                out.update(pred_logits=logits, pred_boxes=boxes)
                return type(module).inference(module, logits, boxes, sizes)

            module.inference = note
            found = [one["instances"] for one in module(told)]
            detections = [
                {"scores": one.scores, "labels": one.pred_classes, "boxes": one.pred_boxes.tensor}
                for one in found
            ]
            return seen([module.normalizer(one["image"]) for one in told], out, detections)

        def saved(module: Any = module) -> Mapping[str, Any]:
            return {"model": module.state_dict(), "iteration": 89999}

        for package in ("timm", "timm.models"):  # transformers looks for it, too
            sys.modules.pop(package, None)
        yield Official(
            name,
            module,
            saved,
            see,
            calibrated=depth is not None,
            settle=partial(all_alike, module.transformer.tgt_embed.weight),
            clipped=True,
        )


def _five_levels(settings: Any) -> None:
    """As detrex's configuration of five scales says it."""
    from detectron2.layers import ShapeSpec

    shapes = {f"res{i + 2}": ShapeSpec(channels=256 * 2**i) for i in range(4)}
    settings.backbone.out_features = settings.neck.in_features = list(shapes)
    settings.neck.input_shapes = shapes
    settings.neck.num_outs = settings.transformer.num_feature_levels = 5


def co_detr(clone: Path) -> Iterator[Official]:
    """https://github.com/open-mmlab/mmdetection/tree/main/projects/CO-DETR, beside an installed
    MMDetection. Images are scaled by Pillow, as here: OpenCV's pixels differ slightly."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    project = clone / "projects" / "CO-DETR"
    imported(project, "codetr")
    init_default_scope("mmdet")
    classes = list(CocoDataset.METAINFO["classes"])
    tiny = {
        "embed_dims": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7,
    }  # fmt: skip
    for name, file in (
        ("Co-DINO-5scale, R50", "co_dino_5scale_r50_8xb2_1x_coco.py"),
        ("Co-DINO-5scale, Swin-T", "co_dino_5scale_swin_l_16xb1_1x_coco.py"),
    ):
        config = Config.fromfile(project / "configs" / "codino" / file, import_custom_modules=False)
        config.model.backbone.init_cfg = None
        config.model.query_head.transformer.encoder.with_cp = -1
        if swin := config.model.backbone.type == "SwinTransformer":
            config.model.backbone.update(tiny)
            config.model.neck.in_channels = [96, 192, 384, 768]
        for step in config.test_dataloader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = (LONGEST, SHORTEST)
        torch.manual_seed(0)
        module: Any = MODELS.build(config.model.copy())

        def prepared(image: Image.Image) -> tuple[Any, Any]:
            resized = np.asarray(image.resize(_size(image), Image.Resampling.BILINEAR))
            height, width = resized.shape[:2]
            about = {
                "img_shape": (height, width),
                "ori_shape": (image.height, image.width),
                "scale_factor": (width / image.width, height / image.height),
            }
            bgr = torch.as_tensor(resized[..., ::-1].copy()).permute(2, 0, 1)
            return bgr, DetDataSample(metainfo=about)

        def see(images: Sequence[Image.Image], module: Any = module) -> list[Seen]:
            inputs, samples = zip(*map(prepared, images), strict=True)
            batch = {"inputs": list(inputs), "data_samples": list(samples)}
            given = module.data_preprocessor(batch, False)
            out: dict[str, Any] = {}

            def note(logits: Any, boxes: Any, *others: Any, **more: Any) -> Any:
                out.update(pred_logits=logits[-1], pred_boxes=boxes[-1])
                head = module.query_head
                return type(head).predict_by_feat(head, logits, boxes, *others, **more)

            module.query_head.predict_by_feat = note
            found = module.predict(given["inputs"], given["data_samples"])
            detections = [
                {"scores": one.scores, "labels": one.labels, "boxes": one.bboxes}
                for one in (sample.pred_instances for sample in found)
            ]
            pixels = [
                padded[:, : about.img_shape[0], : about.img_shape[1]]
                for padded, about in zip(given["inputs"], given["data_samples"], strict=True)
            ]
            return seen(pixels, out, detections)

        def saved(module: Any = module, config: Any = config) -> Mapping[str, Any]:
            about = {"cfg": config.pretty_text, "dataset_meta": {"classes": classes}}
            return {"state_dict": module.state_dict(), "meta": about}

        contents = module.query_head.transformer.query_embed.weight
        yield Official(
            name, module, saved, see, calibrated=not swin, settle=partial(all_alike, contents)
        )


def _bare(clone: Path, name: str) -> None:
    """A package of which parts are imported without what it imports itself."""
    module = types.ModuleType(name)
    module.__path__ = [str(clone.joinpath(*name.split(".")))]
    sys.modules[name] = module


def _size(image: Image.Image) -> tuple[int, int]:
    """Width and height, as transformers rounds them."""
    short, long = sorted(image.size)
    side = SHORTEST if long / short * SHORTEST <= LONGEST else round(LONGEST * short / long)
    other = int(side * long / short)
    return (side, other) if image.width <= image.height else (other, side)
