"""Files of official repositories, converted to Hugging Face folders: do both compute the same?

The official code itself builds a model, whose weights are then drawn at random everywhere, saves it
as its training script does, and evaluates photographs as its own evaluation does. The file goes
through ``ablate convert --to transformers``, and the folder through the kit. It needs clones of the
repositories, torchvision beside torch, and transformers; nothing is downloaded. The table is part
of docs/official.md:

    python benchmarks/official.py --images val2017 detr=CLONE deformable=CLONE ...

Each repository runs in a process of its own, since their packages have the same names.
"""

import argparse
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.adapter import ImageDetections
from ablate_kit.models.open import open_adapter
from ablate_kit.models.rewrite import bridge

HEAD = "| model | tensors | pixels | logits | boxes | detections |"
PHOTOGRAPHS = 2
SCORE, PIXEL = 1e-5, 0.1  # by which detections may differ to be the same


@dataclass(frozen=True)
class Seen:
    """What the official evaluation makes of one image."""

    pixels: Tensor  # (3, H, W)
    logits: Tensor  # (queries, outputs)
    boxes: Tensor  # (queries, 4)
    scores: Tensor  # of its detections
    labels: Tensor
    corners: Tensor  # (detections, 4), in pixels of the image


@dataclass(frozen=True)
class Official:
    """A model of an official repository.

    ``saved`` is what its training script saves; ``see`` is its own evaluation. ``calibrated``
    gives its batch norms the statistics of an image: where queries are chosen by a score, they must
    not be all alike. ``settle`` is called once weights are drawn. ``clipped`` says that boxes end
    at the image's border, as transformers' do not.
    """

    name: str
    module: nn.Module
    saved: Callable[[], Any]
    see: Callable[[Image.Image], Seen]
    calibrated: bool = False
    settle: Callable[[], None] = lambda: None
    clipped: bool = False


def detr(clone: Path) -> Iterator[Official]:
    """https://github.com/facebookresearch/detr"""
    yield from _of_facebook_kind(clone, {"DETR-R50": [], "DETR-R101": ["--backbone", "resnet101"]})


def deformable(clone: Path) -> Iterator[Official]:
    """https://github.com/fundamentalvision/Deformable-DETR, with its own sampling in Python."""
    _as_it_was()
    functions = _import(clone, "models.ops.functions.ms_deform_attn_func")

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


def rfdetr(clone: Path) -> Iterator[Official]:
    """https://github.com/roboflow/rf-detr (1.11), without what its training alone needs."""
    for name in ("peft", "supervision"):
        sys.modules.setdefault(name, MagicMock())
    source = clone / "src"
    configs, namespace = _import(source, "rfdetr.config"), _import(source, "rfdetr._namespace")
    models = _import(source, "rfdetr.models")
    make_transforms = _import(source, "rfdetr.datasets.coco").make_coco_transforms_square_div_64
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
            image: Image.Image,
            module: Any = module,
            transforms: Any = transforms,
            decode: Any = decode,
        ) -> Seen:
            pixels, _ = transforms(image, {})
            out = module([pixels])
            found = decode(out, torch.tensor([[image.height, image.width]]))[0]
            return Seen(
                pixels,
                out["pred_logits"][0],
                out["pred_boxes"][0],
                found["scores"],
                found["labels"],
                found["boxes"],
            )

        saved = lambda module=module, config=config, training=training: {  # noqa: E731
            "model": module.state_dict(),
            "args": training.model_dump(),
            "model_config": config.model_dump(),
        }

        def settle(module: Any = module, queries: int = config.num_queries) -> None:
            # The first stage's choices come in the order of their scores, which rounding changes:
            # then another query of the group would start there.
            for one in (module.refpoint_embed.weight, module.query_feat.weight):
                groups = one.detach().unflatten(0, (-1, queries))
                groups.copy_(groups[:, :1].clone())

        name = f"RF-DETR {size.lower()}"
        yield Official(name, module, saved, see, settle=settle, clipped=True)


FAMILIES: Mapping[str, Callable[[Path], Iterator[Official]]] = {
    "detr": detr,
    "deformable": deformable,
    "conditional": conditional,
    "dab": dab,
    "rtdetr": rtdetr,
    "dfine": dfine,
    "rfdetr": rfdetr,
}


def _of_facebook_kind(
    clone: Path, variants: Mapping[str, list[str]], build: str = "build_model"
) -> Iterator[Official]:
    """DETR and what was made from its code: one parser of arguments, and one evaluation."""
    _as_it_was()
    import torchvision

    for name in ("resnet50", "resnet101"):
        make = getattr(torchvision.models, name)
        setattr(torchvision.models, name, partial(_untrained, make))
    parser = argparse.ArgumentParser(parents=[_import(clone, "main").get_args_parser()])
    transforms = _import(clone, "datasets.coco").make_coco_transforms("val")
    for name, options in variants.items():
        arguments = parser.parse_args(["--device", "cpu", *options])
        module, _, postprocessors = getattr(_import(clone, "models"), build)(arguments)

        def see(image: Image.Image, module: Any = module, decode: Any = postprocessors) -> Seen:
            pixels, _ = transforms(image, None)
            out = module([pixels])
            found = decode["bbox"](out, torch.tensor([[image.height, image.width]]))[0]
            return Seen(
                pixels,
                out["pred_logits"][0],
                out["pred_boxes"][0],
                found["scores"],
                found["labels"],
                found["boxes"],
            )

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


def _of_rtdetr_kind(clone: Path, variants: Mapping[str, str]) -> Iterator[Official]:
    """RT-DETR and what was made from its code: a configuration for each size."""
    config = _import(clone, "src.core").YAMLConfig
    compose = _import(clone, "src.data.transforms").Compose
    untrained = {name: {"pretrained": False} for name in ("PResNet", "HGNetv2")}
    # A configuration leaves its settings in both, for the next one to find.
    (remembered,) = _import(clone, "src.core.yaml_utils").load_config.__defaults__
    defaults = _import(clone, "src.core.workspace").GLOBAL_CONFIG
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
            return Seen(
                pixels,
                out["pred_logits"][0],
                out["pred_boxes"][0],
                found["scores"],
                found["labels"],
                found["boxes"],
            )

        saved = lambda module=made.model: {  # noqa: E731
            "last_epoch": 71,
            "model": module.state_dict(),
            "ema": {"module": module.state_dict(), "updates": 1},
            "optimizer": {},
            "lr_scheduler": {},
        }
        yield Official(name, made.model, saved, see, calibrated=True)


def _untrained(make: Callable[..., nn.Module], pretrained: bool = False, **options: Any) -> Any:
    return make(weights=None, **options)


def _import(clone: Path, name: str) -> Any:
    if str(clone) not in sys.path:
        sys.path.insert(0, str(clone))
    __import__(name)
    return sys.modules[name]


def drawn(module: nn.Module, generator: torch.Generator) -> None:
    """Weights at random everywhere, so that none can be another's unseen."""

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or name.endswith(("anchors", "points_scale")):
            continue
        with torch.no_grad():
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.mul_(1 + 0.1 * noise(tensor).clamp(-3, 3))
            elif tensor.ndim < 2 or not tensor.any():
                tensor.add_(0.05 * noise(tensor))
            elif "class_embed" in name or "score" in name:
                tensor.add_(0.2 * noise(tensor))


def _calibrate(official: Official, image: Image.Image, generator: torch.Generator) -> None:
    def measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0]
        noise = torch.randn(2, values.shape[1], generator=generator).clamp(-3, 3) / 10
        norm.running_mean.copy_(values.mean((0, 2, 3)) + noise[0] * values.std())
        norm.running_var.copy_((values.var((0, 2, 3)) + 1e-3) * (1 + noise[1]))

    norms = [one for one in official.module.modules() if "BatchNorm" in type(one).__name__]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        official.see(image)
    for hook in hooks:
        hook.remove()


def _in_order(logits: Tensor, boxes: Tensor, theirs: Seen) -> tuple[Tensor, Tensor]:
    """Our queries in the order of theirs: where queries are chosen by a score, rounding swaps such
    that have nearly the same."""
    ours, other = torch.cat([logits, boxes], 1), torch.cat([theirs.logits, theirs.boxes], 1)
    nearest = torch.cdist(other.double(), ours.double()).argmin(1)
    return logits[nearest], boxes[nearest]


def compare(official: Official, images: list[Path], folder: Path) -> str:
    """A row of the table."""
    generator = torch.Generator().manual_seed(0)
    drawn(official.module, generator)
    official.settle()
    official.module.eval()
    if official.calibrated:
        _calibrate(official, Image.open(images[0]).convert("RGB"), generator)
    torch.save(official.saved(), folder / "official.pth")
    with open_checkpoint(folder / "official.pth") as checkpoint:
        bridge(checkpoint, folder / "hf")
        count = len(checkpoint.tensors)
    with open_checkpoint(folder / "hf") as checkpoint:
        adapter = open_adapter(checkpoint)
    differences = []
    for path in images:
        image = Image.open(path).convert("RGB")
        with torch.no_grad():
            theirs = official.see(image)
            prepared = adapter.prepare(np.asarray(image))
            out = adapter.forward(prepared.inputs)
        ours = adapter.decode(out, [prepared.origin])[0]
        if official.clipped:
            height, width = image.height, image.width
            corners = ours.boxes.clip(0, (width, height, width, height))
            ours = replace(ours, boxes=corners)
        logits, boxes = _in_order(out.logits[0], out.pred_boxes[0], theirs)
        differences.append(
            (
                (theirs.pixels - prepared.inputs["pixel_values"][0]).abs().max().item(),
                ((theirs.logits - logits).abs().max() / theirs.logits.std()).item(),
                (theirs.boxes - boxes).abs().max().item(),
                *_detections(theirs, ours),
            )
        )
    pixels, logits, boxes, corners, missing = np.max(differences, axis=0)
    return (
        f"| {official.name} | {count} | {pixels:.0e} | {logits:.0e} | {boxes:.0e} "
        f"| {missing:.0f} without a counterpart, boxes {corners:.0e} px |"
    )


def _detections(theirs: Seen, ours: ImageDetections) -> tuple[float, int]:
    """Of their best detections, how far the nearest of ours with label and score is, in pixels,
    and how many have none. Places in the order mean nothing where scores are nearly the same."""
    best = theirs.scores.argsort(descending=True, stable=True)[:MAX_DETECTIONS]
    scores, labels, corners = (
        tensor[best].numpy() for tensor in (theirs.scores, theirs.labels, theirs.corners)
    )
    alike = (labels[:, None] == ours.labels) & (np.abs(scores[:, None] - ours.scores) < SCORE)
    distances = np.abs(corners[:, None] - ours.boxes).max(2)
    nearest = np.where(alike, distances, np.inf).min(1)
    found = nearest < PIXEL
    return float(nearest[found].max(initial=0)), int((~found).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="+", metavar="FAMILY=CLONE", help=", ".join(FAMILIES))
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--rows-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.rows_only:
        print(f"{HEAD}\n|---|---|---|---|---|---|", flush=True)
    for one in options.families:
        family, _, clone = one.partition("=")
        if not options.rows_only:
            again = [sys.executable, "-W", "ignore", __file__, one]
            subprocess.run([*again, "--images", str(options.images), "--rows-only"], check=True)
            continue
        images = sorted(options.images.glob("*.jpg"))[:PHOTOGRAPHS]
        for official in FAMILIES[family](Path(clone)):
            with tempfile.TemporaryDirectory() as folder:
                print(compare(official, images, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
