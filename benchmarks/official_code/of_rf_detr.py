"""RF-DETR."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from PIL import Image

from official_code.built import Official, Seen, imported, queries_start_alike, seen, sizes


def rfdetr(clone: Path) -> Iterator[Official]:
    """https://github.com/roboflow/rf-detr (1.11), without what its training alone needs."""
    for name in ("peft", "supervision"):
        sys.modules.setdefault(name, MagicMock())
    source = clone / "src"
    configs, namespace = imported(source, "rfdetr.config"), imported(source, "rfdetr._namespace")
    models = imported(source, "rfdetr.models")
    make_transforms = imported(source, "rfdetr.datasets.coco").make_coco_transforms_square_div_64
    for size in ("Nano", "Small", "Base", "Medium", "Large"):
        config = getattr(configs, f"RFDETR{size}Config")(pretrain_weights=None, device="cpu")
        training = configs.TrainConfig(dataset_dir=".", dataset_file="coco")
        settings = namespace._namespace_from_configs(config, training)
        settings.pretrain_weights = "nowhere"  # so that DINOv2's are not downloaded either
        torch.manual_seed(0)
        module = models.build_model(settings)
        transforms = make_transforms("val", config.resolution)
        decode = models.PostProcess(num_select=config.num_select)

        def see(
            images: Sequence[Image.Image],
            module: Any = module,
            transforms: Any = transforms,
            decode: Any = decode,
        ) -> list[Seen]:
            pixels = [transforms(one, {})[0] for one in images]
            out = module(list(pixels))
            return seen(pixels, out, decode(out, sizes(images)))

        saved = lambda module=module, config=config, training=training: {  # noqa: E731
            "model": module.state_dict(),
            "args": training.model_dump(),
            "model_config": config.model_dump(),
        }
        settle = partial(queries_start_alike, module, config.num_queries)
        name = f"RF-DETR {size.lower()}"
        yield Official(name, module, saved, see, settle=settle, clipped=True)
