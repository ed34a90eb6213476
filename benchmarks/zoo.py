"""Which detectors of LibreYOLO and torchvision open, evaluate and are swept, tried one by one.

Each is built in its smallest size with random weights, its state dict saved, and opened as any
checkpoint; docs/zoo.md says which environment it needs:

    python benchmarks/zoo.py
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_table import print_table
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.variants.variant import Variant

VARIANTS = 5
HEAD = "| model | keys | attention | evaluates | 5 variants | replays |"
OF_TORCHVISION = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)


def builders() -> dict[str, Callable[[], nn.Module]]:
    """By what ``--model`` says of it."""
    import libreyolo.models
    from libreyolo.models.base import BaseModel
    from torchvision.models import get_model

    libreyolo.models.try_ensure_rfdetr()
    found: dict[str, Callable[[], nn.Module]] = {}
    for family in BaseModel._registry:
        if "detect" in family._supported_tasks() and family.INPUT_SIZES:
            size = min(family.INPUT_SIZES, key=family.INPUT_SIZES.get)  # the first of the smallest
            found[f"libreyolo:{family.FAMILY}:{size}"] = partial(_of_libreyolo, family, size)
    for name in OF_TORCHVISION:
        found[f"torchvision:{name}"] = partial(
            get_model, name, weights=None, weights_backbone=None, num_classes=91
        )
    return found


def _of_libreyolo(family: Any, size: str) -> nn.Module:
    found: nn.Module = family(None, size=size, device="cpu", _scratch_init=True).model
    return found


def row(name: str, build: Callable[[], nn.Module], folder: Path) -> str:
    try:
        with redirect_stdout(StringIO()), torch.random.fork_rng():
            torch.manual_seed(0)
            net = build().eval()
        path = folder / "model.pt"
        torch.save({key: one.clone() for key, one in net.state_dict().items()}, path)
        del net
        with open_checkpoint(path) as checkpoint:
            adapter = open_adapter(checkpoint, name)
            floating = [key for key, info in checkpoint.tensors.items() if info.is_floating]
            live = adapter.live_names()
            keys = f"{sum(bool(live.get(key)) for key in floating)}/{len(floating)}"
            known = attentions(checkpoint.tensors, checkpoint.settings)
            cuts = _heads(known, live)[:1]
    except (UserError, Exception) as error:
        return f"| {name} |  |  | no: {_brief(error)} |  |  |"
    try:
        (found,) = detect(adapter, [image()])
        evaluates = "yes" if np.isfinite(found.boxes).all() else "boxes that are no numbers"
        chosen = [
            key for key in floating if live.get(key) and len(checkpoint.tensors[key].shape) > 1
        ]
        cuts += [Ablation(n, "component", (Edit(n),)) for n in chosen[:: len(chosen) // VARIANTS]]
        swept, replayed = run(adapter, [Variant.of(one) for one in cuts[:VARIANTS]])
    except (UserError, Exception) as error:
        return f"| {name} | {keys} | {len(known)} | no: {_brief(error)} |  |  |"
    return f"| {name} | {keys} | {len(known)} | {evaluates} | {swept} | {replayed} |"


def run(adapter: Adapter, variants: list[Variant]) -> tuple[str, str]:
    """How many variants change the detections, and whether replay gives those of full passes."""
    batches = [[adapter.prepare(image())]]
    found = [_detections(adapter, batches, variants, replay) for replay in (True, False)]
    (replayed, notes), (full, _) = found
    same = all(
        np.array_equal(getattr(one, column), getattr(other, column))
        for one, other in zip(replayed, full, strict=True)
        for column in ("boxes", "scores", "labels")
    )
    count = len(variants)
    if not same:
        return f"{count}", "no: other bits"
    return f"{count}", "yes" if not notes else f"in part: {notes[0][:90]}"


def _detections(
    adapter: Adapter, batches: list[list[Prepared]], variants: list[Variant], replay: bool
) -> tuple[list[ImageDetections], list[str]]:
    with VariantExecutor(adapter, replay=replay) as executor:
        rows = [executor.run(batch, variants) for batch in batches]
        return [one for batch in rows for found in batch for one in found], list(executor.notes)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def _heads(known: list[Attention], live: Mapping[str, Sequence[str]]) -> list[Ablation]:
    """Of those whose number of heads the file tells."""
    try:
        made = heads_each(known)
    except UserError:
        return []
    return [one for one in made if all(live.get(edit.tensor) for edit in one.edits)]


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split()).replace("|", "/")
    return re.sub(r"/\S+/model.pt", "FILE", text)[:110]


def table(names: list[str]) -> Iterator[str]:
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    for name, build in builders().items():
        if not names or any(one in name for one in names):
            with tempfile.TemporaryDirectory() as folder:
                yield row(name, build, Path(folder))


if __name__ == "__main__":
    print_table(__doc__, "parts of the names of some of them", table)
