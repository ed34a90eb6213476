"""The published tool's ablations against what it wrote: names and elements."""

import json
import random
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
from ablate_kit.compat.deep_dissect.published_cuts import component, heads, progressive, single
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

SELF = "encoder.layers.{layer}.self_attn.attn.in_proj_weight"
CROSS = "decoder.layers.{layer}.cross_attn.attn.in_proj_weight"
CALLS = {
    "single_5pct_x3_seed42": lambda s: single("query_embedding.weight", s, 5, repeats=3),
    "single_30pct_x1_seed42": lambda s: single(SELF.replace("{layer}", "0"), s, 30),
    "heads_5pct_layers0-2_x2_seed42": lambda s: heads(SELF, [0, 1, 2], s, 5, repeats=2),
    "heads_20pct_cross_seed42": lambda s: heads(CROSS, [0], s, 20),
    "component": lambda s: [component("query_embedding.weight", s)],
    "progressive": lambda s: progressive(SELF, [0, 1, 2], s),
}


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
    made = CALLS[call](shapes)
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


def test_every_recorded_call_is_held_against(recorded):
    assert set(CALLS) == set(recorded[0]["calls"])


SHAPES = {"a.0.w": (16, 256), "a.1.w": (16, 256), "a.2.w": (8, 256), "narrow.0.w": (96, 32)}


def test_it_draws_by_its_seed():
    first, again = (heads("a.{layer}.w", [0, 1], SHAPES, 10, seed=7) for _ in range(2))
    assert first == again
    assert first != heads("a.{layer}.w", [0, 1], SHAPES, 10, seed=8)
    one, other = (edit.region.indices(edit.tensor, SHAPES[edit.tensor]) for edit in first[0].edits)
    assert len(one) == 12 * 32
    assert set(one) != set(other)


def test_a_copy_is_cut_where_the_published_generators_say(tmp_path):
    """As the live model is: both by torch's permutation, and by Python's sample."""
    values = {name: torch.full(shape, 1.5) for name, shape in SHAPES.items()}
    save_file(values, tmp_path / "base.safetensors")
    (units,) = single("a.0.w", SHAPES, 10, seed=7)
    (of_heads,) = heads("a.{layer}.w", [0], SHAPES, 10, seed=7)
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
    ("call", "told"),
    [
        (lambda: single("a.0.v", SHAPES, 5), 'no tensor "a.0.v" .* did you mean "a.0.w"'),
        (lambda: single("a.0.w", SHAPES, 0), "expected more than 0"),
        (lambda: single("a.0.w", SHAPES, 0.001), "less than one"),
        (lambda: heads("a.0.w", [0], SHAPES, 5), "has no {layer}"),
        (lambda: heads("a.{layer}.w", [0, 2], SHAPES, 5), "differ in shape"),
        (lambda: heads("narrow.{layer}.w", [0], SHAPES, 5), "at least 256 columns"),
        (lambda: heads("a.{layer}.w", [5], SHAPES, 5), 'no tensor "a.5.w"'),
        (lambda: progressive("a.{layer}.w", [0, 9], SHAPES), 'no tensor "a.9.w"'),
        (lambda: component("b", SHAPES), 'no tensor "b"'),
    ],
)
def test_what_cannot_be_cut(call, told):
    with pytest.raises(UserError, match=told):
        call()


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
    checkpoint = SimpleNamespace(
        tensors=tensors,
        shapes=shapes,
        settings={"encoder": layer, "decoder": layer},
        modules_above=lambda key: [],
        unsupported={},
        quantized={},
    )
    recipe = load_sweep(repository / f"recipes/sweep/deep_dissect_mmdet_{kind}.yaml")
    made = recipe.make(KindContext(checkpoint))
    assert len(made) == count
    published = {one for one in made if one.kind.startswith("deep-dissect")}
    assert published >= set(single("query_embedding.weight", shapes, 5, repeats=3))
    packed = "decoder.layers.{layer}.self_attn.attn.in_proj_weight"
    assert published >= set(heads(packed, range(6), shapes, 30, repeats=3))
    assert published >= {component("query_embedding.weight", shapes)}
    assert published >= set(progressive(packed, range(6), shapes))
    assert {one.kind for one in made} - {one.kind for one in published} == {"heads", "layers"}
