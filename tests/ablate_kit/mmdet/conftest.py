"""Checkpoints that MMEngine's runner saves after a step of training MMDetection's own models.

They are built from the configurations that MMDetection ships, with a smaller backbone, fewer
layers and queries, and trained on two small images.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

CONFIGS = {
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "conditional": "conditional_detr/conditional-detr_r50_8xb2-50e_coco.py",
    "dab": "dab_detr/dab-detr_r50_8xb2-50e_coco.py",
    "deformable": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "refine": "deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py",
    "two-stage": "deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
    "improved": "dino/dino-4scale_r50_improved_8xb2-12e_coco.py",
    "swin": "dino/dino-5scale_swin-l_8xb2-12e_coco.py",
}
SCALE = (128, 96)


@dataclass(frozen=True)
class Saved:
    """A configuration, and a checkpoint of the model that it describes."""

    config: Path
    checkpoint: Path

    def model(self) -> Any:
        """As MMEngine builds and fills it."""
        from mmdet.registry import MODELS
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from mmengine.runner import load_checkpoint

        init_default_scope("mmdet")
        model = MODELS.build(Config.fromfile(self.config).model)
        load_checkpoint(model, str(self.checkpoint), map_location="cpu", strict=True)
        return model.eval()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO data set of three small images."""
    import mmdet.datasets

    folder = tmp_path_factory.mktemp("coco")
    generator = np.random.default_rng(1)
    names = mmdet.datasets.CocoDataset.METAINFO["classes"]
    images, boxes = [], []
    for i, (width, height) in enumerate(((120, 90), (100, 100), (90, 120)), start=1):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        box = {"bbox": [10.0, 20.0, 50.0, 60.0], "area": 3000.0, "iscrowd": 0}
        boxes.append({"id": i, "image_id": i, "category_id": 2 * i, **box})
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    text = json.dumps({"images": images, "annotations": boxes, "categories": categories})
    (folder / "all.json").write_text(text)
    return folder


@pytest.fixture(scope="session")
def saved(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    return cache(lambda name: _train(CONFIGS[name], data, tmp_path_factory.mktemp(name)))


@pytest.fixture(autouse=True)
def _own_files_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """MMEngine's own loader reads its runner's files with the whole of pickle."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


def _train(name: str, data: Path, folder: Path) -> Saved:
    from mmengine.runner import Runner

    config = _config(name, data, folder)
    with torch.random.fork_rng():
        runner = Runner.from_cfg(config)
        # What starts at zero would hide that a tensor is in the wrong place.
        generator = torch.Generator().manual_seed(1)
        runner.model.init_weights()
        runner._has_loaded = True
        with torch.no_grad():
            for parameter in runner.model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
        runner.model.init_weights = lambda: None
        runner.train()
    path = folder / "config.py"
    config.dump(path)
    return Saved(path, folder / "iter_1.pth")


def _config(name: str, data: Path, folder: Path) -> Any:
    import mmdet
    from mmengine.config import Config

    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / name)
    model = config.model
    if name == CONFIGS["swin"]:
        model.backbone.update(
            embed_dims=24, depths=(2, 1, 2, 1), num_heads=(1, 2, 3, 4), window_size=5, init_cfg=None
        )
        model.neck.in_channels = [24, 48, 96, 192]
    else:
        model.backbone.update(depth=18, init_cfg=None)
        model.neck.in_channels = [size // 4 for size in model.neck.in_channels]
    model.num_queries = 20
    model.encoder.num_layers, model.decoder.num_layers = 1, 2
    model.decoder.layer_cfg.self_attn_cfg.num_heads = 4  # of which not everything has 8
    model.decoder.layer_cfg.cross_attn_cfg.num_heads = 4
    if model.type not in ("DETR", "ConditionalDETR", "DABDETR"):
        model.encoder.layer_cfg.self_attn_cfg.num_heads = 16
    if model.type == "DETR":
        model.test_cfg.max_per_img = 20
    resize = {"type": "Resize", "scale": SCALE, "keep_ratio": True}
    load, pack = {"type": "LoadImageFromFile"}, {"type": "PackDetInputs"}
    annotations = {"type": "LoadAnnotations", "with_bbox": True}
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.update(
            data_root=str(data), ann_file="all.json", data_prefix={"img": ""},
            pipeline=[load, annotations, resize, pack],
        )  # fmt: skip
    config.test_dataloader.dataset.pipeline = [load, resize, annotations, {
        "type": "PackDetInputs",
        "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    }]  # fmt: skip
    config.train_dataloader.batch_size = 2
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 1, "val_interval": 10}
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.param_scheduler = [{"type": "MultiStepLR", "by_epoch": False, "milestones": [5]}]
    config.default_hooks.checkpoint.update(interval=1, by_epoch=False)
    config.default_hooks.pop("visualization")
    config.update(work_dir=str(folder), log_level="ERROR", device="cpu", randomness={"seed": 0})
    config.experiment_name = folder.name
    return config
