"""A turned knob gives what a model gives that was configured so by the library's own means."""

import copy
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hugging_face.transformers_knobs import TransformersKnobs
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_knobs import HybridKnobs
from ablate_kit.models.inference.detect import inference
from detector.config import preset
from detector.network.model import HybridDetector
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import adapter_of

Folders = Callable[[str], Path]
FAMILIES = ("detr", "deformable_detr", "rt_detr_v2", "d_fine")
IMAGE = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


def run(module: torch.nn.Module, image: Tensor = IMAGE) -> Any:
    with inference(module):
        return module(image)


def by_the_library(adapter: Any, weights: Mapping[str, Tensor], **changes: Any) -> torch.nn.Module:
    """The model from a changed configuration and the weights that it takes."""
    config = copy.deepcopy(adapter.module.config)
    config.tie_word_embeddings = False  # the library cannot tie the heads of one layer
    for name, value in changes.items():
        setattr(config, name, value)
    module, report = type(adapter.module).from_pretrained(
        None, config=config, state_dict=dict(weights), dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert isinstance(module, torch.nn.Module)
    return module.eval()


def same(one: Any, other: Any) -> None:
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.pred_boxes, other.pred_boxes)


@pytest.mark.parametrize("name", FAMILIES)
def test_depth_is_decoder_layers(folders: Folders, name: str) -> None:
    adapter = adapter_of(folders(name))
    knobs = TransformersKnobs(adapter)
    assert knobs.now("depth") == 2
    weights = dict(adapter.module.state_dict())
    proposing = {
        key.replace("_embed.2.", "_embed.1."): tensor
        for key, tensor in weights.items()
        if re.search(r"(class|bbox)_embed\.2\.", key)
    }
    gone = r"decoder\.layers\.1\.|(class_embed|bbox_embed|lqe_layers)\.[12]\."
    kept = {key: tensor for key, tensor in weights.items() if not re.search(gone, key)}
    assert bool(proposing) == (name == "deformable_detr")
    expected = by_the_library(adapter, kept | proposing, decoder_layers=1)
    found = knobs.configured("depth", 1)
    same(run(found.module), run(expected))
    assert not torch.equal(run(found.module).logits, run(adapter.module).logits)


def test_depth_is_the_layer_at_which_a_decoder_is_left(folders: Folders) -> None:
    """``eval_idx`` of D-FINE, and the heads of RT-DETR's first layer within the whole model."""
    d_fine = adapter_of(folders("d_fine"))
    early = TransformersKnobs(d_fine).configured("depth", 1)
    d_fine.module.model.decoder.eval_idx = 0
    same(run(early.module), run(d_fine.module))
    rt_detr = adapter_of(folders("rt_detr_v2"))
    whole = run(rt_detr.module)
    first = run(TransformersKnobs(rt_detr).configured("depth", 1).module)
    assert torch.equal(first.logits, whole.intermediate_logits[:, 0])
    assert torch.equal(first.pred_boxes, whole.intermediate_reference_points[:, 0])


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_are_as_many_as_the_configuration_says(folders: Folders, name: str) -> None:
    adapter = adapter_of(folders(name))
    knobs = TransformersKnobs(adapter)
    two_stage = name == "deformable_detr"
    assert knobs.now("queries") == (300 if two_stage else 10)
    weights = {
        key: tensor[:4] if key.endswith("query_position_embeddings.weight") else tensor
        for key, tensor in adapter.module.state_dict().items()
    }
    changes = {"num_queries": 4} | ({"two_stage_num_proposals": 4} if two_stage else {})
    expected = by_the_library(adapter, weights, **changes)
    found = knobs.configured("queries", 4)
    same(run(found.module), run(expected))
    assert run(found.module).logits.shape[1] == 4


def test_fewer_tokens_of_queries_are_as_if_nobody_saw_the_others(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_of(folders("yolos"))
    knobs = TransformersKnobs(adapter)
    assert knobs.now("queries") == 10
    found = run(knobs.configured("queries", 4).module)
    attention = torch.nn.functional.scaled_dot_product_attention

    def masked(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: None, **options: Any
    ) -> Tensor:
        seen = torch.ones(1, 1, query.shape[-2], key.shape[-2], dtype=torch.bool)
        seen[..., -6:] = False
        return attention(query, key, value, **options | {"attn_mask": seen})

    everything = run(adapter.module)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", masked)
    expected = run(adapter.module)
    for name in ("logits", "pred_boxes"):
        torch.testing.assert_close(found[name], expected[name][:, :4], rtol=0, atol=1e-6)
        assert (found[name] - everything[name][:, :4]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["deformable_detr", "rt_detr_v2", "d_fine"])
def test_fewer_chosen_queries_are_the_best_of_all(folders: Folders, name: str) -> None:
    adapter = adapter_of(folders(name))
    few = run(TransformersKnobs(adapter).configured("queries", 4).module)
    everything = run(adapter.module)
    if name == "deformable_detr":
        assert torch.equal(few.init_reference_points, everything.init_reference_points[:, :4])
    else:  # where tokens beyond the anchors tie, it is open which of them is taken
        best, best_of_all = (one.enc_topk_logits.max(-1).values for one in (few, everything))
        assert torch.equal(best, best_of_all[:, :4])


def test_size_is_that_of_the_processor(folders: Folders, tmp_path: Path) -> None:
    folder = folders("rt_detr_v2")
    other = shutil.copytree(folder, tmp_path / "smaller")
    file = other / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    assert settings["size"] == {"height": 128, "width": 128}
    file.write_text(json.dumps(settings | {"size": {"height": 96, "width": 96}}))
    image = np.random.Generator(np.random.Philox(1)).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    expected, knobs = adapter_of(other), TransformersKnobs(adapter_of(folder))
    assert knobs.now("size") == 128
    found = knobs.configured("size", 96)
    one = found.prepare(image)
    assert one.origin == (50, 70)
    assert one.inputs["pixel_values"].shape == (1, 3, 96, 96)
    assert torch.equal(one.inputs["pixel_values"], expected.prepare(image).inputs["pixel_values"])
    with inference(found.module):
        same(found.forward(one.inputs), expected.forward(one.inputs))


def test_a_model_that_computes_anchors_ahead_does_so_for_the_size(folders: Folders) -> None:
    adapter = adapter_of(folders("rt_detr_v2"))
    fixed = by_the_library(adapter, adapter.module.state_dict(), anchor_image_size=[128, 128])
    adapter.module = fixed
    found = TransformersKnobs(adapter).configured("size", 96)
    smaller = IMAGE[..., :96, :96]
    free = adapter_of(folders("rt_detr_v2"))
    torch.testing.assert_close(run(found.module, smaller).logits, run(free.module, smaller).logits)


def test_the_longest_edge_goes_with_the_shortest(folders: Folders) -> None:
    adapter = adapter_of(folders("detr"))
    adapter.processor.size = {"shortest_edge": 800, "longest_edge": 1333}
    knobs = TransformersKnobs(adapter)
    assert knobs.now("size") == 800
    found = knobs.configured("size", 400)
    assert dict(found.processor.size) == {"shortest_edge": 400, "longest_edge": 666}


def test_weights_are_shared_and_the_model_stays_as_it_is(folders: Folders) -> None:
    adapter = adapter_of(folders("d_fine"))
    before = run(adapter.module).logits
    state = torch.random.get_rng_state()
    found = TransformersKnobs(adapter).configured("depth", 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    ours = adapter.module.state_dict()
    for name, tensor in found.module.state_dict().items():
        assert tensor.data_ptr() == ours[name].data_ptr()
    assert torch.equal(run(adapter.module).logits, before)
    assert found.classes == adapter.classes


def test_what_a_model_cannot_do_is_refused(folders: Folders) -> None:
    adapter = adapter_of(folders("detr"))
    knobs = TransformersKnobs(adapter)
    with pytest.raises(UserError, match="10 rows, for 10 queries"):
        knobs.configured("queries", 11)
    adapter.module.config.decoder_layers = 7
    with pytest.raises(UserError, match="cannot be left early: it has none with layers"):
        knobs.now("depth")
    adapter.processor.size = {"height": 100, "width": 200}
    with pytest.raises(UserError, match="expected one side, or height and width alike"):
        knobs.now("size")
    d_fine = adapter_of(folders("d_fine"))
    d_fine.module.config.eval_idx = 0
    with pytest.raises(UserError, match="left after layer 0 of 2"):
        TransformersKnobs(d_fine).now("depth")


def test_a_head_that_was_never_trained_is_told(folders: Folders) -> None:
    adapter = adapter_of(folders("rt_detr_v2"))
    knobs = TransformersKnobs(adapter)
    assert knobs.note("depth", 1) is None
    with torch.no_grad():
        adapter.module.class_embed[0].bias.fill_(-4.595)
    said = knobs.note("depth", 1) or ""
    assert said.startswith("depth 1: the class head of that layer was not trained (all its biases")
    assert knobs.note("depth", 2) is knobs.note("queries", 1) is None
    assert "not trained" in (knobs_of(detector()).note("depth", 2) or "")
    heads = adapter.module.bbox_embed
    with torch.no_grad():
        adapter.module.class_embed[0].bias.normal_()
        heads[0].layers[-1].bias.copy_(torch.tensor([0.0, 0.0, -2.0, -2.0]))
        heads[1].layers[-1].bias.normal_()
    said = knobs.note("depth", 1) or ""
    assert said.startswith("depth 1: the box head of that layer was not trained (its last biases")
    assert knobs.note("depth", 2) is None
    shipped = HybridKnobs(adapter_of(SHAPES_TINY))
    assert shipped.note("depth", 1) is shipped.note("depth", 2) is None


# The hybrid detector


def detector(**changes: Any) -> HybridDetector:
    small = {"num_classes": 8, "image_size": 96, "widths": (16, 32, 32, 32), "d_model": 32}
    return HybridDetector(preset("tiny").replace(**(small | {"queries": 12} | changes)), seed=1)


def knobs_of(module: HybridDetector) -> HybridKnobs:
    return HybridKnobs(HybridAdapter(module, tuple("abcdefgh"), {}))


@pytest.mark.parametrize("changes", [{}, {"denoising": "contrastive", "denoising_layers": "all"}])
def test_depth_is_that_of_the_auxiliary_heads(changes: dict[str, Any]) -> None:
    module = detector(**changes)
    knobs = knobs_of(module)
    assert knobs.now("depth") == 3
    image = IMAGE[..., :96, :96]
    states: list[Any] = []
    module.decoder.register_forward_hook(lambda _, __, out: states.extend(out))
    with inference(module):
        module(image)
        heads = [*module.heads.aux, module.heads.main]
        expected = [
            head(module.heads.prepare(content), point)
            for head, (content, point) in zip(heads, states, strict=True)
        ]
    for depth, (logits, boxes) in enumerate(expected, start=1):
        found = run(knobs.configured("depth", depth).module, image)
        assert torch.equal(found["logits"], logits)
        assert torch.equal(found["boxes"], boxes)


def test_the_depths_of_the_shipped_detector_are_what_it_computes_for_training() -> None:
    adapter = adapter_of(SHAPES_TINY)
    knobs = HybridKnobs(adapter)
    early = run(knobs.configured("depth", 2).module)
    # The root alone in training: it returns what the heads of earlier layers say, drops nothing.
    adapter.module.training = adapter.module.heads.training = True
    logits, boxes = run(adapter.module)["aux"][1]
    assert torch.equal(early["logits"], logits)
    assert torch.equal(early["boxes"], boxes)


def test_hybrid_queries_are_as_many_as_the_configuration_says() -> None:
    module = detector()
    image = IMAGE[..., :96, :96]
    weights = {
        name: tensor[:5] if name in ("queries.content", "queries.position") else tensor
        for name, tensor in module.state_dict().items()
    }
    expected = detector(queries=5)
    expected.load_state_dict(weights)
    found = run(knobs_of(module).configured("queries", 5).module, image)
    assert torch.equal(found["logits"], run(expected.eval(), image)["logits"])


def test_queries_of_all_kinds_keep_their_shares_and_their_best() -> None:
    kinds = {"proposal_queries": 6, "peak_queries": 4, "grid_queries": 2, "query_objectness": True}
    module = detector(queries=16, **kinds, denoising="thesis", denoising_queries=10)
    image = IMAGE[..., :96, :96]
    chosen: list[Any] = []
    module.queries.proposals.register_forward_hook(lambda _, __, out: chosen.append(out[0]))
    run(module.eval(), image)
    few = knobs_of(module).configured("queries", 8).module
    assert isinstance(few, HybridDetector)
    config = few.config
    assert (config.proposal_queries, config.peak_queries, config.grid_queries) == (3, 2, 1)
    few.queries.proposals.register_forward_hook(lambda _, __, out: chosen.append(out[0]))
    run(few, image)
    assert torch.equal(chosen[1].reference, chosen[0].reference[:, :3])
    table, ours = few.queries.content, module.queries.content
    # Rows for denoising, then peaks (4), grid (2), learned (4), and what proposals do not use.
    rows = [*range(10), 10, 11, 14, 16, 17]
    assert torch.equal(table[: len(rows)], ours[rows])


def test_hybrid_size_is_that_of_the_configuration() -> None:
    module = detector()
    found = knobs_of(module).configured("size", 64)
    expected = detector(image_size=64)
    expected.load_state_dict(module.state_dict())
    image = np.random.Generator(np.random.Philox(1)).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    prepared = found.prepare(image)
    assert prepared.inputs["images"].shape == (1, 3, 64, 64)
    other: Adapter = HybridAdapter(expected, tuple("abcdefgh"), {})
    with inference(expected):
        one, two = (each.forward(prepared.inputs) for each in (found, other))
    assert torch.equal(one["logits"], two["logits"])


def test_what_the_hybrid_detector_cannot_do_is_refused() -> None:
    with pytest.raises(UserError, match="aux_loss is false"):
        knobs_of(detector(aux_loss=False)).now("depth")
    with pytest.raises(UserError, match="image_size is 100; expected a multiple of 32"):
        knobs_of(detector()).configured("size", 100)
