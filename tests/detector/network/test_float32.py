"""Boxes and reference points in mixed precision: float32, and right for what the layers hold."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.config import preset
from detector.network.float32 import in_float32, without_autocast
from detector.network.model import HybridDetector

CHANGES = {
    "image_size": 64, "widths": (16, 32, 16, 16), "depths": (1, 1, 1, 1), "d_model": 32,
    "decoder_layers": 3,
}  # fmt: skip
QUERIES = {
    "learned": {"queries": 8},
    "chosen": {
        "queries": 12, "proposal_queries": 3, "peak_queries": 4, "grid_queries": 3,
        "query_objectness": True, "boxes": "refined", "iou_head": True,
    },
}  # fmt: skip
TARGETS = [
    {"boxes": torch.tensor([[0.4, 0.6, 0.3, 0.2]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]


def _on_grid(values: Tensor, dtype: torch.dtype) -> bool:
    """Are they numbers that the type can tell apart?"""
    return torch.equal(values, values.to(dtype).float())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["learned", "chosen"])
def test_boxes_and_references_of_every_layer_are_those_of_float32(
    kind: str, dtype: torch.dtype, training: bool
) -> None:
    """Each layer's own content is read off, and its boxes and references are computed in float64:
    what half precision rounds elsewhere is in the content, too, and does not count here."""
    denoising = {"denoising": "contrastive", "denoising_layers": "all"} if training else {}
    config = preset("tiny").replace(**CHANGES, **QUERIES[kind], **denoising)
    model = HybridDetector(config, seed=3).train(training)
    with torch.no_grad():  # as if trained: what starts at zero has moved
        for layer in model.decoder.layers:
            layer.refine2.bias.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    exact = copy.deepcopy(model).double()
    moves: list[tuple[Tensor, nn.Module]] = []  # content, layer
    boxes: list[tuple[nn.Module, Tensor, Tensor, Tensor]] = []  # head, content, reference, box
    twin = dict(exact.named_modules())
    for name, module in model.named_modules():
        if name.startswith("decoder.layers.") and name.endswith(".refine1"):
            layer = twin[name.removesuffix(".refine1")]
            module.register_forward_hook(
                lambda _, args, __, layer=layer: moves.append((args[0], layer))
            )
        if name.startswith(("heads.main", "heads.aux.")) and name.count(".") == 1 + ("aux" in name):
            module.register_forward_hook(
                lambda _, args, out, head=twin[name]: boxes.append((head, *args, out[1]))
            )
    states: list[tuple[Tensor, Tensor]] = []
    model.decoder.register_forward_hook(
        lambda _, args, out: states.extend([(args[0], args[4]), *out])
    )
    with torch.autocast("cpu", dtype):
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        out = model(images, TARGETS, torch.Generator().manual_seed(4))

    references = [reference for _, reference in states]
    assert {reference.dtype for reference in references} == {torch.float32}
    assert {out[name].dtype for name in ("boxes", "logits", "references")} == {torch.float32}
    layers = len(model.decoder.layers)
    assert (len(moves), len(references)) == (layers, layers + 1)
    for (content, layer), (before, after) in zip(moves, pairwise(references), strict=True):
        assert content.dtype == torch.float32
        move = layer.refine_scale * torch.tanh(
            layer.refine2(F.gelu(layer.refine1(content.double())))
        )
        expected = torch.sigmoid(torch.logit(before.double(), eps=1e-6) + move)
        torch.testing.assert_close(after.double(), expected, rtol=0, atol=1e-6)
        assert not _on_grid(after, dtype)
    assert len(boxes) == (2 * layers if training else 1)  # of denoising queries, too
    for head, content, reference, box in boxes:
        assert box.dtype == torch.float32
        raw = head.box_head(content.double())
        if head.refined:
            raw[..., :2] += torch.logit(reference.double(), eps=1e-6)
        torch.testing.assert_close(box.double(), raw.sigmoid(), rtol=0, atol=1e-6)
        assert not _on_grid(box, dtype)


@pytest.mark.parametrize("kind", ["learned", "chosen"])
def test_the_decoder_starts_from_points_of_float32(kind: str) -> None:
    """Learned references are those of float32 to the bit; seeds lie in the centers of cells."""
    config = preset("tiny").replace(**CHANGES, **QUERIES[kind])
    model = HybridDetector(config, seed=3).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    starts: list[tuple[Tensor, Tensor]] = []  # the encoder's references, the decoder's
    model.decoder.register_forward_pre_hook(lambda _, args: starts.append(args[4]))
    model.encoder.register_forward_pre_hook(lambda _, args: starts.append(args[3]))
    model(images)
    with torch.autocast("cpu", torch.bfloat16):
        model(images)
    cells, points, cells_mixed, points_mixed = starts
    assert torch.equal(cells, cells_mixed)
    assert points_mixed.dtype == torch.float32
    fixed = slice(config.proposal_queries + config.peak_queries, None)
    assert torch.equal(points[:, fixed], points_mixed[:, fixed])
    if config.peak_queries:
        peaks = points_mixed[0, config.proposal_queries :][: config.peak_queries]
        sides = torch.tensor([4.0, 8.0, 16.0])  # of p5, p4, p3
        away = (peaks[:, None] * sides[:, None] - 0.5).frac().abs().amax(-1)
        assert away.amin(1).max() < 1e-5


def test_without_autocast_nothing_is_widened() -> None:
    @without_autocast
    def same(x: Tensor, more: list[Tensor]) -> tuple[Tensor, Tensor]:
        return x, more[0]

    half = torch.ones(2, dtype=torch.float16)
    assert [x.dtype for x in same(half, [half])] == [torch.float16] * 2
    with torch.autocast("cpu", torch.bfloat16):
        assert [x.dtype for x in same(half, [half])] == [torch.float32] * 2
    found = in_float32({"a": [half, (torch.ones(1, dtype=torch.long), 3)]})
    assert (found["a"][0].dtype, found["a"][1][0].dtype) == (torch.float32, torch.int64)
