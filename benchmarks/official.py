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
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from official_code import FAMILIES
from official_code.built import Official, Seen
from PIL import Image
from torch import Tensor, nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.conversions import write_bridge

HEAD = "| model | tensors |" + " pixels | logits | boxes | detections |" * 2
PHOTOGRAPHS = 2
OF_CLASSES = re.compile(r"(class_embed|score)(?!.*\.layers\.[01]\.)")  # the last layer alone
SCORE, PIXEL = 1e-5, 0.1  # by which detections may differ to be the same


def drawn(module: nn.Module, generator: torch.Generator) -> None:
    """Weights at random everywhere, so that none can be another's unseen."""

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    seen = set()
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or name.endswith(("anchors", "points_scale")):
            continue
        if tensor.data_ptr() in seen:  # a head that layers share
            continue
        seen.add(tensor.data_ptr())
        with torch.no_grad():
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.mul_(1 + 0.1 * noise(tensor).clamp(-3, 3))
            elif tensor.ndim < 2 or not tensor.any():
                tensor.add_(0.05 * noise(tensor))
            elif OF_CLASSES.search(name):
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
        official.see([image])
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
        write_bridge(to_transformers(checkpoint), folder / "hf")
        count = len(checkpoint.tensors)
    with open_checkpoint(folder / "hf") as checkpoint:
        adapter = open_adapter(checkpoint)
    opened = [Image.open(path).convert("RGB") for path in images]
    alone = [row for image in opened for row in _differences(official, adapter, [image])]
    together = _differences(official, adapter, opened)
    return f"| {official.name} | {count} |{_cells(alone)}{_cells(together)}"


def _differences(
    official: Official, adapter: Any, images: list[Image.Image]
) -> Iterator[tuple[float, ...]]:
    """Of a batch, for each image: pixels, logits, boxes, and what ``_detections`` says."""
    inputs = adapter.processor(images=images, return_tensors="pt")
    with torch.no_grad():
        seen = official.see(images)
        out = adapter.forward(inputs)
    decoded = adapter.decode(out, [(one.height, one.width) for one in images])
    for i, (image, theirs, ours) in enumerate(zip(images, seen, decoded, strict=True)):
        if official.clipped:
            corners = ours.boxes.clip(0, (image.width, image.height) * 2)
            ours = replace(ours, boxes=corners)
        logits, boxes = _in_order(out.logits[i], out.pred_boxes[i], theirs)
        height, width = theirs.pixels.shape[1:]
        yield (
            (theirs.pixels - inputs["pixel_values"][i][:, :height, :width]).abs().max().item(),
            ((theirs.logits - logits).abs().max() / theirs.logits.std()).item(),
            (theirs.boxes - boxes).abs().max().item(),
            *_detections(theirs, ours),
        )


def _cells(differences: Iterable[tuple[float, ...]]) -> str:
    pixels, logits, boxes, corners, missing = np.max(list(differences), axis=0)
    return (
        f" {pixels:.0e} | {logits:.0e} | {boxes:.0e} "
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
        print(HEAD, "|---" * (HEAD.count("|") - 1) + "|", sep="\n", flush=True)
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
