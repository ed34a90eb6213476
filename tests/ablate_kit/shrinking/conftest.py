"""Ablations of parts, and the smaller checkpoints that come of them."""

from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import pytest
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import select_attentions
from ablate_kit.ablations.edits import Blocks, Edit, Intervention
from ablate_kit.anatomy.feed_forwards import feed_forwards
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.shrinking.equality import images_of
from ablate_kit.shrinking.smaller_checkpoint import Shrunk, shrink


def outputs(adapter: Adapter) -> tuple[torch.Tensor, ...]:
    """Scores and boxes of a random image."""
    prepared = adapter.prepare(images_of(None)[0])
    with inference(adapter.module):
        found = adapter.forward(prepared.inputs)
    return found["logits"], found["boxes" if "boxes" in found else "pred_boxes"]


def cut(edits: Iterable[Edit], live: Iterable[Intervention] = ()) -> Ablation:
    return Ablation("cut", "test", tuple(edits), tuple(live))


def whole(path: Path, *prefixes: str) -> list[Edit]:
    """All tensors of modules, or tensors, become zero."""
    with open_checkpoint(path) as opened:
        names = list(opened.tensors)
    starts = tuple(f"{one}." for one in prefixes)
    return [Edit(name) for name in names if name in prefixes or name.startswith(starts)]


def heads(path: Path, pattern: str, chosen: Iterable[int]) -> list[Edit]:
    with open_checkpoint(path) as opened:
        modules = select_attentions(pattern, opened.tensors, str(path), config=opened.settings)
        return [edit for one in modules for edit in one.remove(chosen)]


def at_means(path: Path, pattern: str, chosen: Iterable[int]) -> list[Ablation]:
    """Heads one by one at means that are made up, as a run keeps them: without what each adds."""
    found = []
    with open_checkpoint(path) as opened:
        modules = select_attentions(pattern, opened.tensors, str(path), config=opened.settings)
        for one, head in product(modules, chosen):
            bias = one.name_of(f"{one.outputs[0].removesuffix('weight')}bias")
            held = opened.read(bias)
            moved = (held + 0.1 * (head + 1)).tolist()
            edits = (*one.remove([head]), Edit(bias, values=tuple(moved)))
            found.append(Ablation(f"{one.prefix}-head{head}-mean", "heads-mean", edits))
    return [Ablation.from_dict(one.to_dict()) for one in found]


def hidden(path: Path, part: str, units: Iterable[int]) -> list[Edit]:
    """The columns of these units in every feed-forward branch with ``part`` in its name."""
    ranges = tuple((unit, unit + 1) for unit in units)
    with open_checkpoint(path) as opened:
        branches = list(feed_forwards(opened.tensors))
    return [Edit(one.last, Blocks(1, ranges)) for one in branches if part in one.module]


@pytest.fixture
def smaller(tmp_path: Path) -> Callable[..., tuple[Path, Shrunk]]:
    """Shrinks a checkpoint by an ablation that matters, or the comparison would not."""

    def make(
        path: Path, ablation: Ablation, *, leave: bool = False, with_code: bool = False
    ) -> tuple[Path, Shrunk]:
        written = tmp_path / f"smaller{path.suffix}"
        with open_checkpoint(path) as opened:
            adapter = open_adapter(opened)
            done = shrink(
                opened, ablation, written, leave=leave, with_code=with_code, adapter=adapter
            )
            before = outputs(adapter)
            with applied(adapter.module, ablation, adapter.live_names()):
                after = outputs(adapter)
        pairs = list(zip(before, after, strict=True))
        assert any(a.shape != b.shape or (a - b).abs().max() > 1e-4 for a, b in pairs)
        assert done.agreement.largest <= 1e-5
        return written, done

    return make
