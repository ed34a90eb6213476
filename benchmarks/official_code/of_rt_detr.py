"""RT-DETR, and what was made from its code."""

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from official_code.built import Official, Seen, imported, seen, sizes


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


def deim(clone: Path) -> Iterator[Official]:
    """https://github.com/ShihuaHuang95/DEIM."""
    first = {f"DEIM-D-FINE-{size.upper()}": f"deim_dfine/deim_hgnetv2_{size}" for size in "nsmlx"}
    second = {
        f"DEIM-RT-DETRv2-{size}": f"deim_rtdetrv2/deim_{name}"
        for size, name in {
            "R18": "r18vd_120e",
            "R34": "r34vd_120e",
            "R50-M": "r50vd_m_60e",
            "R50": "r50vd_60e",
            "R101": "r101vd_60e",
        }.items()
    }
    yield from _of_deim_kind(clone, first | second)


def rtdetrv4(clone: Path) -> Iterator[Official]:
    """https://github.com/RT-DETRs/RT-DETRv4, which is D-FINE, trained beside a larger network."""
    sizes = "smlx"
    yield from _of_deim_kind(
        clone, {f"RT-DETRv4-{size.upper()}": f"rtv4/rtv4_hgnetv2_{size}" for size in sizes}
    )


def deimv2(clone: Path) -> Iterator[Official]:
    """https://github.com/Intellindust-AI-Lab/DEIMv2, whose synchronized batch norms a CPU lacks."""
    torch.nn.SyncBatchNorm = torch.nn.BatchNorm2d  # type: ignore[assignment, misc]
    sizes = [f"hgnetv2_{size}" for size in ("atto", "femto", "pico", "n", "s", "m", "l", "x")]
    sizes += [f"dinov3_{size}" for size in "smlx"]
    variants = {f"DEIMv2 {size.replace('_', ' ')}": f"deimv2/deimv2_{size}" for size in sizes}
    for one in _of_deim_kind(clone, variants):
        yield replace(one, settle=partial(_mask_keys, one.module))


def _mask_keys(module: torch.nn.Module) -> None:
    """As in the published weights of DINOv3."""
    for name, mask in module.named_buffers():
        if name.endswith("qkv.bias_mask"):
            third = len(mask) // 3
            mask.fill_(1)[third : 2 * third] = 0


def _of_deim_kind(clone: Path, variants: Mapping[str, str]) -> Iterator[Official]:
    """Without the count of FLOPs; steps of preparation have torchvision's older name."""
    from torchvision.transforms import v2

    v2.Transform.transform = lambda step, one, drawn: step._transform(one, drawn)
    sys.modules["calflops"] = types.ModuleType("calflops")
    sys.modules["calflops"].calculate_flops = None  # type: ignore[attr-defined]
    for one in _of_rtdetr_kind(clone, variants, "engine"):

        def saved(everything: Callable[[], Any] = one.saved) -> Any:
            content = everything()
            del content["lr_scheduler"]
            return content

        yield replace(one, saved=saved)


def _of_rtdetr_kind(
    clone: Path, variants: Mapping[str, str], package: str = "src"
) -> Iterator[Official]:
    """RT-DETR and what was made from its code: a configuration for each size."""
    config = imported(clone, f"{package}.core").YAMLConfig
    compose = imported(clone, f"{package}.data.transforms").Compose
    untrained = {name: {"pretrained": False} for name in ("PResNet", "HGNetv2")}
    # A configuration leaves its settings in both, for the next one to find.
    (remembered,) = imported(clone, f"{package}.core.yaml_utils").load_config.__defaults__
    defaults = imported(clone, f"{package}.core.workspace").GLOBAL_CONFIG
    pristine = {kind: copy(values) for kind, values in defaults.items()}
    for name, path in variants.items():
        remembered.clear()
        defaults.clear()
        defaults.update({kind: copy(values) for kind, values in pristine.items()})
        made = config(str(clone / "configs" / f"{path}_coco.yml"), tuning=None, **untrained)
        steps = made.yaml_cfg["val_dataloader"]["dataset"]["transforms"]["ops"]
        with redirect_stdout(None):
            transforms = compose(ops=[dict(step) for step in steps])
            decode, module = made.postprocessor, made.model
        decode.remap_mscoco_category = False  # category ids are for COCO's own evaluation

        def see(
            images: Sequence[Image.Image],
            module: Any = module,
            transforms: Any = transforms,
            decode: Any = decode,
        ) -> list[Seen]:
            pixels = torch.stack([transforms(one, {}, None)[0] for one in images])
            out = module(pixels)
            return seen(list(pixels), out, decode(out, sizes(images).flip(1)))

        saved = lambda module=module: {  # noqa: E731
            "last_epoch": 71,
            "model": module.state_dict(),
            "ema": {"module": module.state_dict(), "updates": 1},
            "optimizer": {},
            "lr_scheduler": {},
        }
        yield Official(name, module, saved, see, calibrated=True)
