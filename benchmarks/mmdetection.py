"""MMDetection's own models beside this project: what is equal, and what it costs.

    python benchmarks/mmdetection.py detr --annotations instances_val2017.json --images val2017

Builds the model from MMDetection's configuration with random weights, has MMEngine's runner save
it, cuts the file, loads it back, and compares in one run: a removed head with its zeroed output,
detections with ``inference_detector``'s, replay with full passes, and the Hugging Face folder with
the model. Ratios are of the processor's time. Needs an environment with MMDetection
(docs/mmdetection.md).
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_chosen, heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.layers import Layers
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.conversions import write_bridge
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.dataset import read_image

CONFIGS = {
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "conditional": "conditional_detr/conditional-detr_r50_8xb2-50e_coco.py",
    "dab": "dab_detr/dab-detr_r50_8xb2-50e_coco.py",
    "deformable": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "refine": "deformable_detr/deformable-detr-refine_r50_16xb2-50e_coco.py",
    "two-stage": "deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
}
SMALL = (224, 224)  # of the input where only equality is asked for; DINO needs 900 places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=CONFIGS)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--scale", type=int, nargs=2, help="Longest and shortest side.")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    # MMEngine's loader reads what its runner wrote with the whole of pickle: our own files here.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import mmcv
    import mmdet
    import mmengine

    found = {"mmdet": mmdet, "mmengine": mmengine, "mmcv": mmcv, "torch": torch, "numpy": np}
    listed = ", ".join(f"{name} {module.__version__}" for name, module in found.items())
    print(f"{listed}, Python {platform.python_version()}, {torch.get_num_threads()} threads")
    images = sorted(arguments.images.glob("*.jpg"))[: arguments.count]
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            # A process each: MMEngine keeps the first runner's folder, which is gone by then.
            one = get_context("fork").Process(
                target=compare, args=(name, Path(folder), images, arguments)
            )
            one.start()
            one.join()
        if one.exitcode:
            sys.exit(one.exitcode)


def compare(name: str, folder: Path, images: list[Path], arguments: argparse.Namespace) -> None:
    seconds: dict[str, float] = {}
    with timed(seconds, "build and save"):
        config, path = save(CONFIGS[name], folder, arguments)
    size = path.stat().st_size / 1e6
    print(f"\n{name}: {CONFIGS[name]}, {size:.0f} MB")
    with timed(seconds, "cut (process)"):
        told = ablate("heads", path, "decoder.layers.5.cross_attn", "--heads", 0, "-o", folder)
    print(f"  {told.split(maxsplit=1)[1].strip()}")
    (cut,) = (one for one in folder.glob("*.pth") if one != path)
    model = build(config)
    for file in (path, cut):
        state = torch.load(file)["state_dict"]
        missing, unexpected = model.load_state_dict(state, strict=False)
        print(f"  {file.name}: {len(missing)} missing, {len(unexpected)} unexpected keys")
    with open_checkpoint(path) as checkpoint:
        adapter = open_adapter(checkpoint, f"mmdet:{config}", trust_remote_code=True)
        with timed(seconds, "heads"):
            print(f"  {removal(adapter.module, checkpoint)}")
        with timed(seconds, "detections"):
            print(f"  {detections(adapter, config, path, images)}")
        with timed(seconds, "replay"):
            print(f"  {replay(adapter, checkpoint, images[0])}")
        if name != "dino":
            with timed(seconds, "bridge"):
                print(f"  {bridge(adapter.module, checkpoint, folder / 'hf')}")
    print("  " + ", ".join(f"{what} {one:.1f} s" for what, one in seconds.items()))


def save(name: str, folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    import mmdet
    from mmengine.config import Config
    from mmengine.runner import Runner

    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / name)
    config.model.backbone.init_cfg = None
    if arguments.scale:
        for step in config.test_dataloader.dataset.pipeline:
            if step.type == "Resize":
                step.scale = tuple(arguments.scale)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root="",
            ann_file=str(arguments.annotations.resolve()),
            data_prefix={"img": str(arguments.images.resolve())},
        )
    config.default_hooks.pop("visualization")
    config.update(work_dir=str(folder / "work"), log_level="ERROR", randomness={"seed": 0})
    config.experiment_name = folder.name  # MMEngine allows a name once
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # some begin at zero, which would hide a mistake
        for parameter in runner.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.message_hub.update_scalar("train/loss", 1.0)
    runner.save_checkpoint(str(folder), "runner.pth", save_param_scheduler=False)
    config.dump(folder / "config.py")
    return folder / "config.py", folder / "runner.pth"


def build(config: Path) -> Any:
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    return MODELS.build(Config.fromfile(config).model).eval()


@torch.no_grad()
def outputs(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and boxes of the last layer."""
    from mmdet.structures import DetDataSample

    size = tuple(images.shape[-2:])
    about = {"img_shape": size, "batch_input_shape": size, "pad_shape": size}
    found = model(images, [DetDataSample(metainfo=about)], mode="tensor")
    return found[0][-1], found[1][-1]


def noise(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))


def removal(model: Any, checkpoint: Checkpoint) -> str:
    """Weights of a head cut, against its output zeroed, in every attention of the model."""
    found = attentions(checkpoint.tensors, checkpoint.config)
    images, modules = noise(SMALL), dict(model.named_modules())
    full, worst, least = outputs(model, images), 0.0, float("inf")
    for one in found:
        with applied(model, heads_chosen([one], [3], "x")):
            cut = outputs(model, images)
        with silenced(modules[one.prefix], 3, one.head_count()):
            zeroed = outputs(model, images)
        worst = max(worst, *(distance(a, b) for a, b in zip(cut, zeroed, strict=True)))
        least = min(least, distance(cut[0], full[0]))
    return (
        f"head 3 removed in each of {len(found)} attentions: outputs within {worst:.1e} of those "
        f"with its output zeroed; moved by {least:.1e} or more"
    )


@contextmanager
def silenced(module: Any, head: int, count: int) -> Iterator[None]:
    """``module`` with a head's output set to zero before its output projection."""
    packed = isinstance(module, nn.MultiheadAttention)
    projection: Any = module.out_proj if hasattr(module, "out_proj") else module.output_proj
    keep = torch.ones(count, projection.in_features // count)
    keep[head] = 0
    if not packed:
        with projection.register_forward_pre_hook(lambda _, given: (given[0] * keep.flatten(),)):
            yield
        return
    forward, weight, bias = module.forward, projection.weight.data, projection.bias.data

    def zeroed(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        projection.weight.data, projection.bias.data = torch.eye(len(bias)), 0 * bias
        before, weights = forward(*args, **kwargs)
        projection.weight.data, projection.bias.data = weight, bias
        return nn.functional.linear(before * keep.flatten(), weight, bias), weights

    module.forward = zeroed
    yield
    del module.__dict__["forward"]


def detections(adapter: Adapter, config: Path, path: Path, images: list[Path]) -> str:
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(config), str(path), device="cpu")
    began = process_time()
    theirs = [inference_detector(model, str(image)).pred_instances for image in images]
    middle = process_time()
    ours = [detect(adapter, [pixels(image)])[0] for image in images]
    end = process_time()
    equal = 0
    for wanted, found in zip(theirs, ours, strict=True):
        order = np.argsort(-wanted.scores.numpy(), kind="stable")
        equal += (
            np.array_equal(found.boxes, wanted.bboxes.double().numpy()[order])
            and np.array_equal(found.scores, wanted.scores.double().numpy()[order])
            and np.array_equal(found.labels, wanted.labels.numpy()[order])
        )
    return (
        f"detections of {equal} of {len(images)} images equal inference_detector's, every bit; "
        f"{(end - middle) / len(images):.2f} s an image, there {(middle - began) / len(images):.2f}"
    )


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return read_image(path, *image.size)


def replay(adapter: Adapter, checkpoint: Checkpoint, image: Path) -> str:
    """20 variants of the decoder on one image, after the batch on which all run in full."""
    last = [a for a in attentions(checkpoint.tensors, checkpoint.config)
            if a.prefix.startswith("decoder.layers.5.self_attn")]  # fmt: skip
    ablations = heads_each(last)
    for part in ("self_attn", "cross_attn"):
        kind = Layers(base="decoder.layers", part=part, mode="each")
        ablations += kind.make(KindContext(checkpoint))
    variants = [Variant.of(one) for one in ablations]
    prepared: list[Prepared] = [adapter.prepare(pixels(image))]
    found, spent = [], []
    for on in (False, True):
        with VariantExecutor(adapter, replay=on) as passes:
            if on:
                passes.run(prepared, variants)
            began = process_time()
            found.append(passes.run(prepared, variants))
            spent.append(process_time() - began)
            notes = passes.notes
    equal = sum(
        all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("boxes", "scores"))
        for one, other in zip(*found, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    return (
        f"replay of {len(variants)} variants: {equal} of {len(found[0])} results equal, every bit; "
        f"{spent[1]:.1f} s against {spent[0]:.1f} s, {spent[0] / spent[1]:.1f}x; "
        f"{len(notes)} notes"
    )


def bridge(model: Any, checkpoint: Checkpoint, folder: Path) -> str:
    from transformers import AutoModelForObjectDetection
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    write_bridge(to_transformers(checkpoint), folder)
    theirs = AutoModelForObjectDetection.from_pretrained(folder).eval()
    worst = [0.0, 0.0]
    for size in (SMALL, (257, 403)):
        logits, boxes = outputs(model, noise(size))
        with torch.no_grad():
            found = theirs(noise(size))
        worst[0] = max(worst[0], distance(found.logits, logits))
        worst[1] = max(worst[1], distance(found.pred_boxes, boxes))
    return f"Hugging Face folder: logits within {worst[0]:.1e}, boxes within {worst[1]:.1e}"


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def ablate(*arguments: object) -> str:
    command = [sys.executable, "-m", "ablate_kit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = perf_counter()
    yield
    seconds[what] = perf_counter() - began


if __name__ == "__main__":
    main()
