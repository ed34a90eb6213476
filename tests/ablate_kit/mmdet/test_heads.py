"""Inside MMDetection's model: cutting a head's weights is what zeroing its output is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_chosen
from ablate_kit.checkpoints import open_checkpoint

SIZE = (96, 128)


def outputs(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and boxes of all layers."""
    from mmdet.structures import DetDataSample

    about = {"img_shape": SIZE, "batch_input_shape": SIZE, "pad_shape": SIZE}
    samples = [DetDataSample(metainfo=about) for _ in images]
    with torch.no_grad():
        logits, boxes = model(images, samples, mode="tensor")[:2]
    return logits, boxes


@contextmanager
def silenced(module: nn.Module, heads: list[int], count: int) -> Iterator[None]:
    """``module`` with these heads' outputs set to zero before its output projection."""
    packed = isinstance(module, nn.MultiheadAttention)
    projection = module.out_proj if packed or hasattr(module, "out_proj") else module.output_proj
    keep = torch.ones(projection.in_features).view(count, -1)
    keep[heads] = 0
    if not packed:
        with projection.register_forward_pre_hook(lambda _, given: (given[0] * keep.flatten(),)):
            yield
        return
    # Torch computes with the projection's weights, and does not call it: it is taken out.
    forward, weight, bias = module.forward, projection.weight.data, projection.bias.data

    def zeroed(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        projection.weight.data, projection.bias.data = torch.eye(len(bias)), 0 * bias
        before, weights = forward(*args, **kwargs)
        projection.weight.data, projection.bias.data = weight, bias
        return nn.functional.linear(before * keep.flatten(), weight, bias), weights

    module.forward = zeroed
    yield
    del module.__dict__["forward"]


@pytest.mark.parametrize("name", ["detr", "conditional", "dab", "deformable", "dino"])
def test_removal_is_exact_in_every_attention(saved: Callable[[str], Any], name: str) -> None:
    one = saved(name)
    model = one.model()
    images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(5))
    modules = dict(model.named_modules())
    full = outputs(model, images)
    with open_checkpoint(one.checkpoint) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
    assert len(found) == 5  # of one encoder layer and two decoder layers
    moved = 0
    for attention in found:
        heads = [0, attention.head_count() - 1]
        with applied(model, heads_chosen([attention], heads, "x")):
            cut = outputs(model, images)
        with silenced(modules[attention.prefix], heads, attention.head_count()):
            zeroed = outputs(model, images)
        for ours, theirs in zip(cut, zeroed, strict=True):
            assert (ours - theirs).abs().max() < 1e-5, attention.prefix
        moved += (cut[0] - full[0]).abs().max() > 1e-4
    assert moved == len(found)
    assert all(torch.equal(a, b) for a, b in zip(outputs(model, images), full, strict=True))
