"""What two ways of "removing an attention head" do to the heads, on a real transformer.

    python benchmarks/head_ablation.py FOLDER MODULE IMAGE... -o FIGURE

FOLDER is a Hugging Face detector, MODULE one of its attention modules with q_proj, k_proj, v_proj
and o_proj. Per ablation and head: how far the head's contribution to the module's output (its
columns of o_proj times its values) moves from the unmodified model's, as a share of its norm. A
removed head contributes nothing: 100 %, and the others 0.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import select_attentions
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter

Change = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("module")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with open_checkpoint(options.folder) as checkpoint:
        modules = select_attentions(
            options.module, checkpoint.tensors, str(checkpoint), config=checkpoint.config
        )
        adapter = open_adapter(checkpoint, trust_remote_code=True)
    images = [np.array(Image.open(path).convert("RGB")) for path in options.images]
    attention: Any = adapter.module.get_submodule(options.module)
    removals = heads_each(modules)
    heads = len(removals)

    def contributions() -> torch.Tensor:
        """(tokens, heads, width): what each head adds to the module's output."""
        seen: list[torch.Tensor] = []
        with attention.o_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
            detect(adapter, images)
        values = torch.cat([one.reshape(-1, one.shape[-1]) for one in seen]).double()
        weight = attention.o_proj.weight.detach().double()  # (out, heads * size)
        parts = zip(values.chunk(heads, 1), weight.chunk(heads, 1), strict=True)
        return torch.stack([part @ columns.T for part, columns in parts], dim=1)

    before = contributions()

    def moved() -> Change:
        norms = (contributions() - before).flatten(2).norm(dim=(0, 2)) / before.norm(dim=(0, 2))
        return norms.numpy()

    rows: list[tuple[str, Change]] = []
    for head, removal in enumerate(removals):
        with applied(adapter.module, removal, adapter.live_names()):
            rows.append((f"head {head} removed", moved()))
    for seed in range(4):
        undo = _stretches(attention, heads, seed)
        rows.append((f"Deep Dissect, 1/{heads} drawn, seed {seed}", moved()))
        undo()
    for name, change in rows:
        print(f"{name:32}", "  ".join(f"{value:6.1%}" for value in change))
    _draw(rows, options.output)


def _stretches(attention: Any, heads: int, seed: int) -> Callable[[], None]:
    """Its rule on the packed matrix of q, k and v: of every row's ``heads`` stretches of columns,
    all in all one in ``heads``. Its stretches are 32 wide, in models of width 256; here they are
    as wide as a head, as they are there."""
    weights = [getattr(attention, f"{name}_proj").weight.data for name in "qkv"]
    saved = [weight.clone() for weight in weights]
    rows, width = sum(len(weight) for weight in weights), weights[0].shape[1] // heads
    packed = torch.cat(weights)
    for place in random.Random(seed).sample(range(heads * rows), rows):
        start = place % heads * width
        packed[place // heads, start : start + width] = 0
    for weight, new in zip(weights, packed.split([len(w) for w in weights]), strict=True):
        weight.copy_(new)

    def undo() -> None:
        for weight, old in zip(weights, saved, strict=True):
            weight.copy_(old)

    return undo


def _draw(rows: list[tuple[str, Change]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = np.array([change for _, change in rows])
    figure = Figure(figsize=(8, 0.36 * len(rows) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.imshow(table, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for i, change in enumerate(table):
        for head, value in enumerate(change):
            color = "white" if value > 0.6 else "black"
            panel.text(head, i, f"{value:.0%}", ha="center", va="center", color=color, fontsize=8)
    panel.set_xticks(range(table.shape[1]), [f"head {head}" for head in range(table.shape[1])])
    panel.set_yticks(range(len(rows)), [name for name, _ in rows])
    panel.set_title("how far each head's contribution moves", fontsize=10)
    panel.spines[:].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
