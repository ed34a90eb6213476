"""Every kind of ablation says what it is about."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.factors import of_module
from ablate_kit.ablations.kinds.greedy_heads import HeadsGreedy
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.kind_registry import KINDS
from ablate_kit.ablations.kinds.shapley import SUBSET
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.recipes.reference_images import ReferenceImages
from detector.data.dataset import limit
from detector.data.shapes import Shapes
from tests.ablate_kit.small_sweeps import sweep_recipe

SELF = "decoder.layers.0.self_attn"
CROSS = "decoder.layers.1.cross_attn"
AT_SELF = {"module": SELF, "layer": 0}
ALL = "decoder.layers.all.self_attn"

# Of a rule: its settings, how many ablations it makes, and the factors of the last of them.
EXAMPLES: Mapping[str, tuple[Mapping[str, object], int, Mapping[str, object]]] = {
    "heads": ({"pattern": SELF}, 4, {**AT_SELF, "head": 3}),
    "heads-chosen": (
        {"pattern": "decoder.layers.*.self_attn", "heads": [0, 1, 3]}, 1,
        {"target": ALL, "heads": "0-1,3"},
    ),
    "heads-random": (
        {"pattern": "decoder.layers.*.self_attn", "percent": [25.0], "repeats": 2}, 2,
        {"target": ALL, "percent": 25.0, "repeat_of": f"{ALL}-25pct", "draw": 1},
    ),
    "heads-retained": ({"pattern": SELF}, 4, {**AT_SELF, "kept_head": 3}),
    "heads-cumulative": (
        {"pattern": SELF, "steps": 2}, 2,
        {"target": SELF, "step": 2, "count": 4, "of": 4, "order": "random",
         "repeat_of": f"{SELF}-4of4", "draw": 0},
    ),
    "units": (
        {"pattern": "heads", "percent": [10.0]}, 1,
        {"target": "heads", "percent": 10.0, "repeat_of": "heads-10pct", "draw": 0},
    ),
    "units-retained": (
        {"pattern": "heads", "percent": [10.0]}, 1,
        {"target": "heads", "keep_percent": 10.0, "repeat_of": "heads-keep10pct", "draw": 0},
    ),
    "hidden-units": (
        {"pattern": "decoder.layers.*.ffn", "percent": [10.0, 25.0]}, 2,
        {"target": "decoder.layers.all.ffn", "percent": 25.0, "order": "smallest"},
    ),
    "component": ({"pattern": ["neck", "heads"], "name": "both"}, 1, {"target": "both"}),
    "modules": ({"pattern": ["decoder.layers.*.ffn"]}, 3,
                {"module": "decoder.layers.2.ffn", "layer": 2}),
    "skip": ({"pattern": ["decoder.layers.*.ffn"]}, 3,
             {"module": "decoder.layers.2.ffn", "layer": 2}),
    "layers": (
        {"base": "decoder.layers", "part": "ffn"}, 3,
        {"target": "decoder.layers.*.ffn", "part": "ffn", "mode": "progressive", "layers": 3},
    ),
    "queries": ({"queries": [2, 3], "how": "zero"}, 2, {"query": 3, "how": "zero"}),
    "points": (
        {"pattern": CROSS, "points": [0, 5], "share": "lost"}, 2,
        {"module": CROSS, "layer": 1, "level": 2, "point": 1, "share": "lost"},
    ),
    "point-levels": (
        {"pattern": CROSS}, 4,
        {"module": CROSS, "layer": 1, "level": 3, "share": "renormalized"},
    ),
    "heads-mean": ({"pattern": SELF, "heads": [2], "images": 1}, 1, {**AT_SELF, "head": 2}),
    "channels": (
        {"pattern": ["decoder.layers.0.ffn.fc1"], "channels": [0, 1], "together": True}, 1,
        {"module": "decoder.layers.0.ffn.fc1", "layer": 0, "channels": "0-1", "to": "zero"},
    ),
    "heads-resampled": (
        {"pattern": SELF, "heads": [1], "repeats": 2}, 2,
        {**AT_SELF, "head": 1, "repeat_of": f"{SELF}-head1-resampled", "draw": 1},
    ),
    "scale": ({"pattern": "neck", "factors": [0.5]}, 1, {"target": "neck", "factor": 0.5}),
    "noise": (
        {"pattern": "neck", "percent": [5.0]}, 1,
        {"target": "neck", "noise_percent": 5.0, "repeat_of": "neck-noise5pct", "draw": 0},
    ),
    "dissect-units": (
        {"tensor": "heads.main.box_head.bias", "percent": [50.0]}, 1,
        {"target": "heads.main.box_head.bias", "percent": 50.0, "draw": 0,
         "protocol": "deep-dissect",
         "repeat_of": "model_heads.main.box_head.bias_single_wise_50"},
    ),
    "dissect-component": (
        {"tensor": "heads.main.box_head.bias"}, 1,
        {"target": "heads.main.box_head.bias", "protocol": "deep-dissect"},
    ),
    "dissect-progressive": (
        {"tensor": "decoder.layers.{layer}.ffn.fc1.weight", "layers": "0-2"}, 3,
        {"target": "decoder.layers.{layer}.ffn.fc1.weight", "mode": "progressive", "layers": 3,
         "protocol": "deep-dissect"},
    ),
}  # fmt: skip
ELSEWHERE = {
    *("levels", "heads-greedy", "dissect-heads"),  # not of the small model that is used here
    *(
        "joined",
        "pairs",
        "shapley",
        "ranked",
        "patch",  # whose variants hold tensors of another checkpoint
    ),  # of what others make: kinds/
}


def made(kind: str, settings: Mapping[str, object], path: Path) -> list[Ablation]:
    with open_checkpoint(path) as checkpoint:

        def reference() -> ReferenceImages:
            return ReferenceImages(open_adapter(checkpoint), limit(Shapes(2, seed=1, split=1), 1))

        return list(KINDS[kind](**settings).make(KindContext(checkpoint, reference)))


def test_every_kind_is_here() -> None:
    assert {*KINDS} == {*EXAMPLES, *ELSEWHERE}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_kind_gives_its_coordinates(kind: str, hybrid: Path) -> None:
    settings, count, factors = EXAMPLES[kind]
    found = made(kind, settings, hybrid)
    assert len(found) == count
    assert found[-1].factors == factors
    assert len({tuple(one.factors.items()) for one in found}) == count


def test_a_search_says_which_head_goes(hybrid: Path) -> None:
    with open_checkpoint(hybrid) as checkpoint:
        rounds = HeadsGreedy(pattern=SELF, steps=1).rounds(KindContext(checkpoint))
        tried = next(rounds)
        assert [one.factors["head"] for one in tried] == [0, 1, 2, 3]
        with pytest.raises(StopIteration) as end:
            rounds.send({one.digest: float(i == 2) for i, one in enumerate(tried)})
    (step,) = end.value.value
    assert step.ablation.factors == {
        "target": SELF, "step": 1, "count": 1, "of": 4, "order": "greedy", **AT_SELF, "head": 2,
    }  # fmt: skip


def test_the_layer_is_the_last_number_of_a_module() -> None:
    assert of_module("backbone.layers.1.blocks.10.attn") == {
        "module": "backbone.layers.1.blocks.10.attn",
        "layer": 10,
    }
    for plain in ("encoder", "x-head3", f"a.{'9' * 5000}.b", "a.\u00b2.b"):
        assert of_module(plain) == {"module": plain}


def test_what_two_rules_make_has_the_factors_of_both(hybrid: Path) -> None:
    rules = [
        {"kind": "modules", "pattern": ["decoder.layers.*.ffn"]},
        {"kind": "layers", "base": "decoder.layers", "part": "ffn"},
    ]
    recipe = sweep_recipe(hybrid, rules)
    with open_checkpoint(hybrid) as checkpoint:
        found = {one.name: one for one in recipe.make(KindContext(checkpoint))}
    assert len(found) == 5
    assert found["decoder.layers.0.ffn"].factors == {
        "module": "decoder.layers.0.ffn", "layer": 0, "target": "decoder.layers.*.ffn",
        "part": "ffn", "mode": "progressive", "layers": 1,
    }  # fmt: skip
    assert "target" not in found["decoder.layers.1.ffn"].factors


@pytest.mark.parametrize("order", [1, -1])
def test_pairs_that_a_random_order_cuts_too_stay_pairs(order: int, hybrid: Path) -> None:
    lines = [{"kind": "pairs"}, {"kind": "shapley"}]
    recipe = sweep_recipe(hybrid, [{"kind": "heads", "pattern": SELF}, *lines[::order]])
    with open_checkpoint(hybrid) as checkpoint:
        made = recipe.make(KindContext(checkpoint))
    assert [one.kind for one in made].count("pairs") == 6
    assert any(one.kind == "pairs" and SUBSET in one.factors for one in made)
