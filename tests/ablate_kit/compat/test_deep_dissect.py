"""The published tool's ablations against what it wrote: names and elements."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.compat.deep_dissect.recipe_kinds import (
    DissectComponent,
    DissectHeads,
    DissectProgressive,
    DissectUnits,
)
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

SELF = "encoder.layers.{layer}.self_attn.attn.in_proj_weight"
CROSS = "decoder.layers.{layer}.cross_attn.attn.in_proj_weight"
EMBEDDING = "query_embedding.weight"
CALLS = {
    "single_5pct_x3_seed42": DissectUnits(tensor=EMBEDDING, percent=[5], repeats=3),
    "single_30pct_x1_seed42": DissectUnits(tensor=SELF.replace("{layer}", "0"), percent=[30]),
    "heads_5pct_layers0-2_x2_seed42": DissectHeads(
        tensor=SELF, layers="0-2", percent=[5], repeats=2
    ),
    "heads_20pct_cross_seed42": DissectHeads(tensor=CROSS, layers="0", percent=[20]),
    "component": DissectComponent(tensor=EMBEDDING),
    "progressive": DissectProgressive(tensor=SELF, layers="0-2"),
}


def made_of(kind, shapes):
    return kind.make(KindContext(SimpleNamespace(shapes=shapes)))


class Holder(torch.nn.Module):
    """A module whose state dict has given names."""

    def __init__(self, tensors):
        super().__init__()
        for name, value in tensors.items():
            at, parts = self, name.split(".")
            for part in parts[:-1]:
                if part not in at._modules:
                    at.add_module(part, torch.nn.Module())
                at = at._modules[part]
            at.register_parameter(parts[-1], torch.nn.Parameter(value))


@pytest.fixture(scope="module")
def recorded(shared):
    folder = shared / "peers/deep_dissect"
    return json.loads((folder / "ablations.json").read_text()), np.load(folder / "ablations.npz")


@pytest.fixture(scope="module")
def model(recorded):
    tensors = {}
    for j, (name, shape) in enumerate(recorded[0]["tensors"]):
        n = np.arange(np.prod(shape))
        values = np.float32(1.5 + np.sin(0.7 * j + 0.013 * n)).reshape(shape)
        tensors[name] = torch.from_numpy(values)
    return Holder(tensors)


@pytest.mark.parametrize("call", CALLS)
def test_the_recorded_calls(recorded, model, call):
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    made = made_of(CALLS[call], shapes)
    zeros = {}
    for ablation in made:
        restored = Ablation.from_dict(json.loads(json.dumps(ablation.to_dict())))
        assert restored == ablation
        with applied(model, restored):
            for name, tensor in model.state_dict().items():
                cut = np.flatnonzero(tensor.numpy() == 0)
                if len(cut):
                    zeros[f"{ablation.name}.pth|{name}"] = cut
    calls, arrays = recorded
    assert set(zeros) == set(calls["calls"][call])
    for key, entry in calls["calls"][call].items():
        size = np.prod(shapes[key.split("|")[1]])
        expected = np.arange(size) if entry == "all" else arrays[entry]
        np.testing.assert_array_equal(zeros[key], expected)


def test_every_recorded_call_is_compared(recorded):
    assert set(CALLS) == set(recorded[0]["calls"])


SHAPES = {"a.0.w": (16, 256), "a.1.w": (16, 256), "a.2.w": (8, 256), "narrow.0.w": (96, 32)}


def test_it_draws_by_its_seed():
    kind = DissectHeads(tensor="a.{layer}.w", layers="0-1", percent=[10], seed=7)
    first, again = (made_of(kind, SHAPES) for _ in range(2))
    assert first == again
    assert first != made_of(replace(kind, seed=8), SHAPES)
    one, other = (edit.region.indices(edit.tensor, SHAPES[edit.tensor]) for edit in first[0].edits)
    assert len(one) == 12 * 32
    assert set(one) != set(other)


def test_a_copy_is_cut_where_the_published_generators_say(tmp_path):
    """As the live model is: both by torch's permutation, and by Python's sample."""
    values = {name: torch.full(shape, 1.5) for name, shape in SHAPES.items()}
    save_file(values, tmp_path / "base.safetensors")
    (units,) = made_of(DissectUnits(tensor="a.0.w", percent=[10], seed=7), SHAPES)
    kind = DissectHeads(tensor="a.{layer}.w", layers="0", percent=[10], seed=7)
    (of_heads,) = made_of(kind, SHAPES)
    order = torch.randperm(16 * 256, generator=torch.Generator().manual_seed(7))
    places = random.Random(7).sample(range(8 * 16), 12)
    expected = {
        "units": sorted(order[:409].tolist()),
        "heads": sorted(p // 8 * 256 + p % 8 * 32 + k for p in places for k in range(32)),
    }
    with open_checkpoint(tmp_path / "base.safetensors") as base:
        copies = {"units": units, "heads": of_heads}
        paths = {tmp_path / f"{name}.safetensors": one for name, one in copies.items()}
        write_variants(base, paths)
    for (name, ablation), path in zip(copies.items(), paths, strict=True):
        written = load_file(path)["a.0.w"]
        assert np.flatnonzero(written.numpy() == 0).tolist() == expected[name]
        module = Holder({key: value.clone() for key, value in values.items()})
        with applied(module, ablation):
            assert torch.equal(module.state_dict()["a.0.w"], written)


def test_a_region_from_a_file_must_fit():
    drawn = {"tensor": "a", "units": 9, "seed": 1, "draw": 0, "by": "random.sample", "value": 0.0}
    values = {"name": "x", "kind": "y", "edits": [drawn]}
    (edit,) = Ablation.from_dict(values).edits
    assert len(edit.region.indices("a", (2, 256))) == 9 * 32
    for shape in ((256,), (2, 100), (1, 256)):
        with pytest.raises(UserError, match="has no Stretches"):
            edit.region.indices("a", shape)
    drawn["by"] = "dice"
    with pytest.raises(UserError, match="not an ablation"):
        Ablation.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (DissectUnits, {"tensor": "a.0.v"}, 'no tensor "a.0.v" .* did you mean "a.0.w"'),
        (DissectUnits, {"tensor": "a.0.w", "percent": [0]}, "expected more than 0"),
        (DissectUnits, {"tensor": "a.0.w", "percent": [0.001]}, "less than one"),
        (DissectHeads, {"tensor": "a.0.w", "layers": "0"}, "has no {layer}"),
        (DissectHeads, {"tensor": "a.{layer}.w", "layers": "0,2"}, "differ in shape"),
        (DissectHeads, {"tensor": "narrow.{layer}.w", "layers": "0"}, "at least 256 columns"),
        (DissectHeads, {"tensor": "a.{layer}.w", "layers": "5"}, 'no tensor "a.5.w"'),
        (DissectProgressive, {"tensor": "a.{layer}.w", "layers": "0,9"}, 'no tensor "a.9.w"'),
        (DissectComponent, {"tensor": "b"}, 'no tensor "b"'),
    ],
)
def test_what_cannot_be_cut(kind, given, told):
    if kind in (DissectUnits, DissectHeads):
        given = {"percent": [5]} | given
    with pytest.raises(UserError, match=told):
        made_of(kind(**given), SHAPES)


def mmdetection_names(kind):
    """Names and shapes of what the study cuts, in MMDetection's models."""
    width = 256
    packed = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
    }
    deformable = {
        f"{name}.{p}": (rows, width) if p == "weight" else (rows,)
        for name, rows in {
            "sampling_offsets": width, "attention_weights": width // 2, "value_proj": width,
            "output_proj": width,
        }.items()
        for p in ("weight", "bias")
    }  # fmt: skip
    sampling = packed if kind == "detr" else deformable
    rows = {"detr": (100, width), "deformable_detr": (300, 2 * width), "dino": (900, width)}
    found = {"query_embedding.weight": rows[kind]}
    for i in range(6):
        found |= {f"encoder.layers.{i}.self_attn.{name}": s for name, s in sampling.items()}
        found |= {f"decoder.layers.{i}.self_attn.{name}": s for name, s in packed.items()}
        found |= {f"decoder.layers.{i}.cross_attn.{name}": s for name, s in sampling.items()}
    return found


@pytest.mark.parametrize(("kind", "count"), [("detr", 112), ("deformable_detr", 76), ("dino", 76)])
def test_the_study_of_mmdetections_models(repository, kind, count):
    shapes = mmdetection_names(kind)
    tensors = {
        name: SimpleNamespace(shape=shape, dtype="float32", is_floating=True)
        for name, shape in shapes.items()
    }
    attention = {"num_heads": 8}
    layer = {"layer_cfg": {"self_attn_cfg": attention, "cross_attn_cfg": attention}}
    settings = {"encoder": layer, "decoder": layer}
    checkpoint = SimpleNamespace(
        tensors=tensors,
        shapes=shapes,
        config=settings,
        settings=settings,
        modules_above=lambda key: [],
        unsupported={},
        quantized={},
    )
    recipe = load_sweep(repository / f"recipes/sweep/deep_dissect_mmdet_{kind}.yaml")
    made = recipe.make(KindContext(checkpoint))
    assert len(made) == count
    published = {one for one in made if one.kind.startswith("deep-dissect")}
    units = DissectUnits(tensor=EMBEDDING, percent=[5], repeats=3)
    assert published >= set(made_of(units, shapes))
    packed = "decoder.layers.{layer}.self_attn.attn.in_proj_weight"
    heads = DissectHeads(tensor=packed, layers="0-5", percent=[30], repeats=3)
    assert published >= set(made_of(heads, shapes))
    assert published >= set(made_of(DissectComponent(tensor=EMBEDDING), shapes))
    assert published >= set(made_of(DissectProgressive(tensor=packed, layers="0-5"), shapes))
    assert {one.kind for one in made} - {one.kind for one in published} == {"heads", "layers"}
