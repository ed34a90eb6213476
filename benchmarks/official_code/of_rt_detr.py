"""RT-DETR, and what was made from its code."""

import sys
import types
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from official_code.built import Official, Seen, imported, seen


def rtdetr(clone: Path) -> Iterator[Official]:
    """https://github.com/lyuwenyu/RT-DETR, whose second version builds the first one, too."""
    sizes = {"R18": "r18vd", "R34": "r34vd", "R50-M": "r50vd_m", "R50": "r50vd", "R101": "r101vd"}
    runs = {"r18vd": "120e", "r34vd": "120e", "r50vd_m": "7x"}
    first = {f"RT-DETR-{size}": f"rtdetr/rtdetr_{name}_6x" for size, name in sizes.items()}
    second = {
        f"RT-DETRv2-{size}": f"rtdetrv2/rtdetrv2_{name}_{runs.get(name, '6x')}"
        for size, name in sizes.items()
    }
    yield from _of_rtdetr_kind(clone / "rtdetrv2_pytorch", first | second)


def dfine(clone: Path) -> Iterator[Official]:
    """https://github.com/Peterande/D-FINE, without its count of FLOPs."""
    sys.modules["calflops"] = types.ModuleType("calflops")
    sys.modules["calflops"].calculate_flops = None  # type: ignore[attr-defined]
    sizes = "nsmlx"
    yield from _of_rtdetr_kind(
        clone, {f"D-FINE-{size.upper()}": f"dfine/dfine_hgnetv2_{size}" for size in sizes}
    )


def _of_rtdetr_kind(clone: Path, variants: Mapping[str, str]) -> Iterator[Official]:
    """RT-DETR and what was made from its code: a configuration for each size."""
    config = imported(clone, "src.core").YAMLConfig
    compose = imported(clone, "src.data.transforms").Compose
    untrained = {name: {"pretrained": False} for name in ("PResNet", "HGNetv2")}
    # A configuration leaves its settings in both, for the next one to find.
    (remembered,) = imported(clone, "src.core.yaml_utils").load_config.__defaults__
    defaults = imported(clone, "src.core.workspace").GLOBAL_CONFIG
    pristine = {kind: copy(values) for kind, values in defaults.items()}
    for name, path in variants.items():
        remembered.clear()
        defaults.clear()
        defaults.update({kind: copy(values) for kind, values in pristine.items()})
        made = config(str(clone / "configs" / f"{path}_coco.yml"), tuning=None, **untrained)
        steps = made.yaml_cfg["val_dataloader"]["dataset"]["transforms"]["ops"]
        transforms = compose(ops=[dict(step) for step in steps])
        decode = made.postprocessor
        decode.remap_mscoco_category = False  # category ids are for COCO's own evaluation

        def see(
            image: Image.Image,
            module: Any = made.model,
            transforms: Any = transforms,
            decode: Any = decode,
        ) -> Seen:
            pixels = transforms(image, {}, None)[0]
            out = module(pixels[None])
            found = decode(out, torch.tensor([[image.width, image.height]]))[0]
            return seen(pixels, out, found)

        saved = lambda module=made.model: {  # noqa: E731
            "last_epoch": 71,
            "model": module.state_dict(),
            "ema": {"module": module.state_dict(), "updates": 1},
            "optimizer": {},
            "lr_scheduler": {},
        }
        yield Official(name, made.model, saved, see, calibrated=True)
