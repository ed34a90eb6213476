"""DETR, and what was made from its code."""

import argparse
import collections.abc
import inspect
import runpy
import shlex
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from PIL import Image
from torch import Tensor, nn

from official_code.built import (
    Official,
    Seen,
    all_alike,
    imported,
    queries_start_alike,
    seen,
    sizes,
)


def detr(clone: Path) -> Iterator[Official]:
    """https://github.com/facebookresearch/detr"""
    yield from _of_facebook_kind(clone, {"DETR-R50": [], "DETR-R101": ["--backbone", "resnet101"]})


def deformable(clone: Path) -> Iterator[Official]:
    """https://github.com/fundamentalvision/Deformable-DETR, with its own sampling in Python."""
    _sampling_in_python(clone, "models.ops.functions.ms_deform_attn_func")
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


def dino(clone: Path) -> Iterator[Official]:
    """https://github.com/IDEA-Research/DINO, with its own sampling in Python, and without a package
    of which it takes little; its arguments are what its configurations say."""
    names = ("timm", "timm.models", "timm.models.layers")
    sys.modules |= dict.fromkeys(names, MagicMock())
    layers: Any = sys.modules["timm.models.layers"]
    layers.to_2tuple, layers.DropPath = lambda side: (side, side), lambda rate: nn.Identity()
    _sampling_in_python(clone, "models.dino.ops.functions.ms_deform_attn_func")
    for package in names:  # transformers looks for it, too
        del sys.modules[package]
    own_heads = {"dec_pred_class_embed_share": False, "dec_pred_bbox_embed_share": False}
    for name, config, changes in (
        ("DINO-4scale", "4scale", {}),
        ("DINO-5scale", "5scale", {}),
        ("DINO-4scale, a head per layer", "4scale", own_heads),
        ("DINO-4scale, contents of the encoder", "4scale", {"embed_init_tgt": False}),
        ("DINO-4scale, Swin-L", "4scale_swin", {}),
        ("DINO-5scale, Swin-T", "5scale", {"backbone": "swin_T_224_1k"}),
    ):
        settings: dict[str, Any] = {}
        for file in ("coco_transformer", f"DINO_{config}"):
            settings |= runpy.run_path(str(clone / "config" / "DINO" / f"{file}.py"))
        arguments = argparse.Namespace(device="cpu", fix_size=False, strong_aug=False)
        vars(arguments).update({k: v for k, v in settings.items() if not k.startswith("_")})
        vars(arguments).update(changes)
        vars(arguments).pop("backbone_dir", None)  # of weights to begin from
        with redirect_stdout(None):
            transforms = imported(clone, "datasets.coco").make_coco_transforms(
                "val", args=arguments
            )
            module, _, postprocessors = imported(clone, "models.dino").build_dino(arguments)
        one = _official(name, module, transforms, postprocessors, arguments)
        contents = module.transformer.tgt_embed
        yield replace(one, settle=partial(all_alike, contents.weight)) if contents else one


def yolos(clone: Path) -> Iterator[Official]:
    """https://github.com/hustvl/YOLOS"""
    between = ["--init_pe_size", "512", "864", "--mid_pe_size", "512", "864"]
    large = ["--init_pe_size", "800", "1344", "--mid_pe_size", "800", "1344"]
    tiny = ["--backbone_name", "tiny", "--eval_size", "512", "--init_pe_size", "800", "1333"]
    yield from _of_facebook_kind(
        clone,
        {
            "YOLOS-Ti": tiny,
            "YOLOS-S": ["--backbone_name", "small", *between],
            "YOLOS-S (dWr)": ["--backbone_name", "small_dWr", *between],
            "YOLOS-B": ["--backbone_name", "base", *large],
        },
    )


def lwdetr(clone: Path) -> Iterator[Official]:
    """https://github.com/Atten4Vis/LW-DETR, with its own sampling in Python, and without a package
    that saves memory in training."""
    sys.modules["fairscale.nn.checkpoint"] = MagicMock()
    _sampling_in_python(clone, "models.ops.functions.ms_deform_attn_func", heads_first=True)
    for size in ("tiny", "small", "medium", "large", "xlarge"):
        script = (clone / "scripts" / f"lwdetr_{size}_coco_eval.sh").read_text()
        words = shlex.split(script.partition("main.py")[2])
        # What lies where, and is read by nobody here.
        options = [word for word in words if word.strip() and not word.startswith("$")]
        for name in ("--coco_path", "--resume"):
            options.remove(name)
        for one in _of_facebook_kind(clone, {f"LW-DETR {size}": options}, square=True):
            queries: Any = one.module.num_queries
            yield replace(one, settle=partial(queries_start_alike, one.module, queries))


def _of_facebook_kind(
    clone: Path,
    variants: Mapping[str, list[str]],
    build: str = "build_model",
    *,
    square: bool = False,
) -> Iterator[Official]:
    """DETR and what was made from its code: one parser of arguments, and one evaluation.

    ``square`` images are prepared by a function of their own.
    """
    _as_it_was()
    parser = argparse.ArgumentParser(parents=[imported(clone, "main").get_args_parser()])
    data = imported(clone, "datasets.coco")
    make = data.make_coco_transforms_square_div_64 if square else data.make_coco_transforms
    takes_arguments = len(inspect.signature(make).parameters) > 1
    for name, options in variants.items():
        arguments = parser.parse_args(["--device", "cpu", *options])
        with redirect_stdout(None):
            transforms = make("val", arguments) if takes_arguments else make("val")
            module, _, postprocessors = getattr(imported(clone, "models"), build)(arguments)

        yield _official(name, module, transforms, postprocessors, arguments)


def _official(
    name: str, module: Any, transforms: Any, postprocessors: Any, arguments: argparse.Namespace
) -> Official:
    """``arguments`` are of the training script."""

    def see(images: Sequence[Image.Image]) -> list[Seen]:
        pixels = [transforms(one, None)[0] for one in images]
        out = module(list(pixels))
        return seen(pixels, out, postprocessors["bbox"](out, sizes(images)))

    def saved() -> dict[str, Any]:
        return {"model": module.state_dict(), "epoch": 49, "args": arguments}

    return Official(name, module, saved, see)


def _sampling_in_python(clone: Path, name: str, *, heads_first: bool = False) -> None:
    """Instead of a compiled operation for GPUs, its own reference."""
    _as_it_was()
    functions = imported(clone, name)

    def sample(value: Tensor, shapes: Tensor, start: Any, places: Tensor, *rest: Any) -> Tensor:
        weights, sizes = rest[0], shapes.tolist()
        if heads_first:  # as its reference takes them
            value, weights = value.permute(0, 2, 3, 1), weights.flatten(3)
        out: Tensor = functions.ms_deform_attn_core_pytorch(value, sizes, places, weights)
        return out

    functions.MSDeformAttnFunction.apply = sample


def _as_it_was() -> None:
    """What these repositories know of torch and torchvision by older names, a compiled operation
    that is for GPUs, and backbones without weights that would be downloaded."""
    import torchvision
    from torch.nn.modules import linear

    torchvision.__version__ = "0.9.0"  # which they read as a number
    sys.modules["MultiScaleDeformableAttention"] = types.ModuleType("compiled")
    sys.modules["torch._overrides"] = torch.overrides
    sys.modules["torch._six"] = types.ModuleType("older")
    sys.modules["torch._six"].container_abcs = collections.abc  # type: ignore[attr-defined]
    linear._LinearWithBias = linear.NonDynamicallyQuantizableLinear  # type: ignore[attr-defined]
    for name in ("resnet50", "resnet101"):
        make = getattr(torchvision.models, name)
        if not isinstance(make, partial):
            setattr(torchvision.models, name, partial(_untrained, make))


def _untrained(make: Callable[..., nn.Module], pretrained: bool = False, **options: Any) -> Any:
    return make(weights=None, **options)
