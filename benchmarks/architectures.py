"""Which object detectors of transformers can be cut, evaluated and replayed, tried one by one.

Each of ``small_detectors`` is saved, and opened as any checkpoint. The table is part of
docs/architectures.md:

    python benchmarks/architectures.py --write docs/architectures.md

Some image processors need torchvision; where it is missing, the table says so.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from page_table import print_table
from small_detectors import ASKED, MODELS, build
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import Attention, attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_chosen, heads_each
from ablate_kit.anatomy import head_counts
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter
from ablate_kit.models.inference.detect import detect, inference
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.variants.variant import Variant


@dataclass(frozen=True)
class Row:
    """What came out for one architecture; each cell is a count, "yes", or the reason why not."""

    name: str
    keys: str
    found: str
    exact: str
    evaluated: str
    replayed: str

    def text(self) -> str:
        cells = self.name, self.keys, self.found, self.exact, self.evaluated, self.replayed
        return "| " + " | ".join(cells) + " |"


HEAD = Row("architecture", "keys", "attention", "heads exact", "evaluates", "replays").text()


def tried(name: str, folder: Path) -> Row:
    """Everything that the table tells of the architecture at ``folder``."""
    with open_checkpoint(folder) as checkpoint:
        try:
            adapter = open_adapter(checkpoint, class_names=classes(name, folder))
        except UserError as error:
            return Row(name, "", "", "", reason(error), "")
        assert isinstance(adapter, TransformersAdapter)
        floating = [n for n, info in checkpoint.tensors.items() if info.is_floating]
        keys = f"{sum(bool(adapter.live_names()[n]) for n in floating)}/{len(floating)}"
        present = attention_modules(adapter.module)
        known = dict(recognized(checkpoint, adapter, present))
        found = f"{len(known)}/{len(present)}"
        inputs = adapter.prepare(image()).inputs
        exact = [
            one
            for place, attention in known.items()
            for one in same_as_without(adapter, inputs, place, attention)
        ]
        heads = f"{sum(exact)}/{len(exact)}"
        try:
            results = detect(adapter, [image()])
        except UserError as error:
            return Row(name, keys, found, heads, reason(error), "")
        usable = all(np.isfinite(one.boxes).all() and len(one.boxes) for one in results)
        notes = notes_of_replay(adapter, list(known.values()))
        return Row(
            name,
            keys,
            found,
            heads,
            "yes" if usable else "boxes that are NaN",
            "yes" if not notes else f"no: {notes[0]}",
        )


def classes(name: str, folder: Path) -> Path | None:
    """A file of what a detector is asked for, if it is asked."""
    if name not in ASKED:
        return None
    path = folder / "classes.txt"
    path.write_text("disc\nred squares\nstar\n")
    return path


def reason(error: UserError) -> str:
    text = str(error)
    if "torchvision" in text:
        return "needs torchvision"
    if "cv2" in text or "OpenCV" in text:
        return "needs OpenCV"
    return "no: it gives no boxes" if "gives no boxes" in text else f"no: {text[:80]}"


def image() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def attention_modules(module: nn.Module) -> list[str]:
    """The outermost modules whose class is called an attention and has weights."""
    found: list[str] = []
    for name, one in module.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if type(one).__name__.endswith("Attention") and not inside and list(one.parameters()):
            found.append(name)
    return found


def recognized(
    checkpoint: Checkpoint, adapter: TransformersAdapter, present: list[str]
) -> Iterator[tuple[str, Attention]]:
    """The attentions that are known by the file alone, with as many heads as the module says."""
    live = adapter.live_names()
    for attention in attentions(checkpoint.tensors, checkpoint.settings):
        names = [n for own in attention.tensors for n in live.get(attention.name_of(own), ())]
        place = next(one for one in present if any(n.startswith(f"{one}.") for n in names))
        says = set(head_counts.of_live(adapter.module, names).values())
        if says == {attention.heads}:
            yield place, attention


@torch.no_grad()
def outputs_of(
    adapter: TransformersAdapter, inputs: Mapping[str, Tensor], place: str
) -> list[Tensor]:
    """What the module at ``place`` gives when it is first called: of each of its outputs, which may
    come with shares of attention, the first tensor."""
    seen: list[list[Tensor]] = []

    def look(module: nn.Module, args: object, output: Any) -> None:
        both = isinstance(output, tuple) and all(isinstance(one, tuple) for one in output)
        parts = output if both else [output]
        leaves = [[x for x in pytree.tree_leaves(one) if isinstance(x, Tensor)] for one in parts]
        seen.append([one[0].clone() for one in leaves])

    module = adapter.module.get_submodule(place)
    with module.register_forward_hook(look), inference(adapter.module):
        adapter.forward(inputs)
    return seen[0]


def same_as_without(
    adapter: TransformersAdapter, inputs: Mapping[str, Tensor], place: str, attention: Attention
) -> Iterator[bool]:
    """For the first and the last head, whether the cut is what setting its output to zero is."""
    full = outputs_of(adapter, inputs, place)
    for head in (0, attention.head_count() - 1):
        with ExitStack() as zeroed:
            for handle in without(adapter, place, attention, head):
                zeroed.callback(handle.remove)
            expected = outputs_of(adapter, inputs, place)
        with applied(adapter.module, heads_chosen([attention], [head], "x"), adapter.live_names()):
            cut = outputs_of(adapter, inputs, place)
        yield all(
            (a - b).abs().max() < 1e-5 * whole.abs().max() < (whole - a).abs().max()
            for a, b, whole in zip(cut, expected, full, strict=True)
        )


def without(
    adapter: TransformersAdapter, place: str, attention: Attention, head: int
) -> Iterator[RemovableHandle]:
    """The reference: a head's share of what comes into the output projections is zero; of the
    module's output where it has none."""
    heads = attention.head_count()

    def kept(x: Tensor) -> Tensor:
        keep = torch.ones(heads)
        keep[head] = 0
        return x * keep.repeat_interleave(x.shape[-1] // heads)

    for output in attention.outputs:
        (live,) = adapter.live_names()[attention.name_of(output)]
        projection = adapter.module.get_submodule(live.removesuffix(".weight"))
        yield projection.register_forward_pre_hook(lambda _, args: (kept(args[0]), *args[1:]))
    if not attention.outputs:
        yield adapter.module.get_submodule(place).register_forward_hook(
            lambda _, __, out: (kept(out[0]), *out[1:]) if isinstance(out, tuple) else kept(out)
        )


def notes_of_replay(adapter: TransformersAdapter, known: list[Attention]) -> list[str]:
    """What a sweep over some of the heads, and over some tensors, cannot replay bit for bit."""
    cuts = heads_each(known)
    cuts = cuts[:: len(cuts) // 12 + 1]
    tensors = list(adapter.live_names())
    cuts += [Ablation(n, "component", (Edit(n),)) for n in tensors[:: max(1, len(tensors) // 8)]]
    with VariantExecutor(adapter) as passes:
        passes.run([adapter.prepare(image())], [Variant.of(one) for one in cuts])
        return passes.notes


def table(names: list[str]) -> Iterator[str]:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    for name in names or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            build(name, Path(folder))
            yield tried(name, Path(folder)).text()


if __name__ == "__main__":
    print_table(__doc__, "some of the architectures", table)
