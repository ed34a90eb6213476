"""DETR, and what was made from its code."""

import argparse
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from official_code.built import Official, Seen, imported, seen


def detr(clone: Path) -> Iterator[Official]:
    """https://github.com/facebookresearch/detr"""
    yield from _of_facebook_kind(clone, {"DETR-R50": [], "DETR-R101": ["--backbone", "resnet101"]})


def deformable(clone: Path) -> Iterator[Official]:
    """https://github.com/fundamentalvision/Deformable-DETR, with its own sampling in Python."""
    _as_it_was()
    functions = imported(clone, "models.ops.functions.ms_deform_attn_func")

    def sample(value: Tensor, shapes: Tensor, start: Any, places: Tensor, *rest: Any) -> Tensor:
        sizes = shapes.tolist()
        out: Tensor = functions.ms_deform_attn_core_pytorch(value, sizes, places, rest[0])
        return out

    functions.MSDeformAttnFunction.apply = sample
    refine = ["--with_box_refine"]
    yield from _of_facebook_kind(
        clone,
        {
            "Deformable DETR": [],
            "Deformable DETR, one level": ["--num_feature_levels", "1"],
            "Deformable DETR, box refinement": refine,
            "Deformable DETR, two stages": [*refine, "--two_stage"],
        },
    )


def conditional(clone: Path) -> Iterator[Official]:
    """https://github.com/Atten4Vis/ConditionalDETR"""
    yield from _of_facebook_kind(clone, {"Conditional DETR-R50": []})


def dab(clone: Path) -> Iterator[Official]:
    """https://github.com/IDEA-Research/DAB-DETR"""
    needed = ["--modelname", "dab_detr", "--coco_path", "."]
    patterns = [*needed, "--num_patterns", "3"]
    yield from _of_facebook_kind(
        clone, {"DAB-DETR-R50": needed, "DAB-DETR-R50, 3 patterns": patterns}, "build_DABDETR"
    )


def _of_facebook_kind(
    clone: Path, variants: Mapping[str, list[str]], build: str = "build_model"
) -> Iterator[Official]:
    """DETR and what was made from its code: one parser of arguments, and one evaluation."""
    _as_it_was()
    import torchvision

    for name in ("resnet50", "resnet101"):
        make = getattr(torchvision.models, name)
        setattr(torchvision.models, name, partial(_untrained, make))
    parser = argparse.ArgumentParser(parents=[imported(clone, "main").get_args_parser()])
    transforms = imported(clone, "datasets.coco").make_coco_transforms("val")
    for name, options in variants.items():
        arguments = parser.parse_args(["--device", "cpu", *options])
        module, _, postprocessors = getattr(imported(clone, "models"), build)(arguments)

        def see(image: Image.Image, module: Any = module, decode: Any = postprocessors) -> Seen:
            pixels, _ = transforms(image, None)
            out = module([pixels])
            found = decode["bbox"](out, torch.tensor([[image.height, image.width]]))[0]
            return seen(pixels, out, found)

        saved = lambda module=module, arguments=arguments: {  # noqa: E731
            "model": module.state_dict(),
            "epoch": 49,
            "args": arguments,
        }
        yield Official(name, module, saved, see)


def _as_it_was() -> None:
    """What these repositories know of torch and torchvision by older names, and a compiled
    operation that is for GPUs."""
    import torchvision
    from torch.nn.modules import linear

    torchvision.__version__ = "0.9.0"  # which they read as a number
    sys.modules["MultiScaleDeformableAttention"] = types.ModuleType("compiled")
    sys.modules["torch._overrides"] = torch.overrides
    linear._LinearWithBias = linear.NonDynamicallyQuantizableLinear  # type: ignore[attr-defined]


def _untrained(make: Callable[..., nn.Module], pretrained: bool = False, **options: Any) -> Any:
    return make(weights=None, **options)
