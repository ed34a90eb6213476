"""Scale, noise, heads retained or removed cumulatively, and random cuts of the same size."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import Blocks, Edit, Noise, Random
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.retain import HeadsCumulative, HeadsRetained
from ablate_kit.ablations.kinds.scale import Noisy, Scale
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from detector.network.attention import SelfAttention

Make = Callable[..., list[Ablation]]  # see conftest.made


def test_scaling_multiplies_and_comes_back(made: Make) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    (ablation,) = made(Scale(pattern="weight", factors=[-0.5]), module.state_dict())
    with applied(module, Ablation.from_dict(ablation.to_dict())):
        assert torch.equal(module.weight, before * -0.5)
    assert torch.equal(module.weight, before)


def test_a_tensor_under_several_names_is_scaled_once(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    before = module[0].weight.detach().clone()
    torch.save(module.state_dict(), tmp_path / "tied.pth")
    with open_checkpoint(tmp_path / "tied.pth") as checkpoint:
        (ablation,) = Scale(pattern="*.weight", factors=[0.5]).make(KindContext(checkpoint))
    assert [edit.tensor for edit in ablation.edits] == ["0.weight"]
    with applied(module, ablation, {"0.weight": ("0.weight", "1.weight")}):
        assert torch.equal(module[1].weight, before * 0.5)
    assert torch.equal(module[0].weight, before)


def test_noise_has_the_deviation_asked_for_and_the_same_draw_everywhere(made: Make) -> None:
    module = nn.Linear(300, 200)
    before = module.weight.detach().clone()
    kind = Noisy(pattern="weight", percent=[10], repeats=2, seed=7)
    ablation, other = made(kind, module.state_dict())
    with applied(module, Ablation.from_dict(ablation.to_dict())):
        first = (module.weight.detach() - before).double()
    with applied(module, other):
        second = (module.weight.detach() - before).double()
    assert torch.equal(module.weight, before)
    expected = 0.1 * before.double().std().item()
    assert first.std().item() == pytest.approx(expected, rel=0.02)
    assert abs(first.mean().item()) < 0.02 * expected
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.02
    # Box and Muller on the first raw numbers of NumPy's Philox, keyed by SHA-256: as pinned here.
    values = Noise(1.0, 7, 0).values("weight", 3)
    assert values.tolist() == pytest.approx(PINNED, rel=1e-12)


def test_noise_leaves_the_variances_of_batch_normalization(made: Make) -> None:
    """Of which a small one would fall below 0, and the network's outputs would be NaN."""
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    module[1].running_var = torch.tensor([1e-6, 1.0, 100.0])
    (ablation,) = made(Noisy(pattern="**", percent=[50]), module.state_dict())
    named = {edit.tensor for edit in ablation.edits}
    assert named == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean"}
    with applied(module, ablation):
        assert module(torch.randn(2, 2, 4, 4)).isfinite().all()
    with pytest.raises(UserError, match="matches variances of batch norm"):
        made(Noisy(pattern="1.running_var", percent=[50]), module.state_dict())


PINNED = [-0.5016075127154964, -0.6275697912799668, 0.16404901922228635]


def test_an_edit_that_only_sets_keeps_its_digest() -> None:
    assert Edit("a").constant
    assert Ablation("a", "b", (Edit("a"),)).to_dict()["edits"] == [{"tensor": "a", "value": 0.0}]


def test_one_head_is_retained_and_the_others_are_not(made: Make) -> None:
    torch.manual_seed(0)
    module = SelfAttention(16, 4).eval()
    weights = {f"attn.{name}": value for name, value in module.state_dict().items()}
    each = made(HeadsRetained(pattern="attn", num_heads=4), weights)
    assert [one.name for one in each] == [f"attn-only{head}" for head in range(4)]
    names = {f"attn.{name}": (name,) for name in module.state_dict()}
    x = torch.randn(1, 5, 16)
    parts = []
    with torch.no_grad():
        full = module(x) - module.out_proj.bias
        for one in each:
            with applied(module, one, names):
                parts.append(module(x) - module.out_proj.bias)
    assert torch.allclose(sum(parts), full, atol=1e-6)


def test_cumulative_steps_remove_what_the_one_before_did(made: Make) -> None:
    module = nn.ModuleDict({"a": SelfAttention(16, 4), "b": SelfAttention(16, 4)})
    steps = made(HeadsCumulative(pattern="*", num_heads=4, steps=4), module.state_dict())
    assert [one.name for one in steps] == [f"all-{k}of8-r0" for k in (2, 4, 6, 8)]

    def removed(one: Ablation) -> set[tuple[str, tuple[int, int]]]:
        return {
            (edit.tensor, pair)
            for edit in one.edits
            if isinstance(edit.region, Blocks)
            for pair in edit.region.ranges
        }

    sets = [removed(one) for one in steps]
    assert [len(one) for one in sets] == [2, 4, 6, 8]
    assert all(a < b for a, b in pairwise(sets))


def test_random_controls_match_in_tensors_and_counts() -> None:
    shapes = {"w": (8, 6), "v": (4,)}
    cut = Ablation("cut", "heads", (Edit("w", Blocks(1, ((0, 2),))), Edit("v", Random(3, 0, 0))))
    controls = random_controls(cut, shapes, 2)
    assert [one.name for one in controls] == ["cut-control0", "cut-control1"]
    for draw, one in enumerate(controls):
        assert one.factors == {"control_of": "cut", "draw": draw}
        assert [edit.tensor for edit in one.edits] == ["w", "v"]
        assert [edit.region.count(shapes[edit.tensor]) for edit in one.edits] == [16, 3]
    with pytest.raises(UserError, match="whole tensors"):
        random_controls(Ablation("all", "component", (Edit("w"),)), shapes, 1)


def test_controls_of_two_ablations_are_drawn_apart() -> None:
    """Also where both cut as many elements of the same tensor."""
    shapes = {"w": (64, 64)}
    heads = [
        Ablation(f"head{i}", "heads", (Edit("w", Blocks(1, ((i, i + 1),))),)) for i in range(8)
    ]
    controls = [one for head in heads for one in random_controls(head, shapes, 3)]
    assert len({one.digest for one in controls}) == 24
    drawn = [set(_region(one).indices("w", shapes["w"]).tolist()) for one in controls]
    shared = [len(a & b) for a, b in combinations(drawn, 2)]
    # Hypergeometric, of 64 and 64 among 4,096: 1 on average, and 9 or more once in 10^6.
    assert max(shared) < 9
    assert abs(sum(shared) / len(shared) - 1) < 0.3
    # The same again, whatever the ablation is called.
    renamed = replace(heads[0], name="other")
    assert random_controls(renamed, shapes, 3)[2].digest == controls[2].digest


def test_the_last_bits_of_a_mean_draw_no_other_control() -> None:
    """They differ with the number of threads that add."""
    shapes = {"w": (8, 6), "b": (2,)}
    zeroed = Edit("w", Blocks(1, ((0, 2),)))
    means = [
        Ablation("head", "mean", (zeroed, Edit("b", Blocks(0, ((0, 2),)), values=(value, 1.0))))
        for value in (0.1, 0.1 + 1e-9)
    ]
    assert means[0].digest != means[1].digest
    one, other = (random_controls(mean, shapes, 1)[0] for mean in means)
    assert one.digest == other.digest
    assert [edit.tensor for edit in one.edits] == ["w"]


def _region(one: Ablation) -> Random:
    (edit,) = one.edits
    assert isinstance(edit.region, Random)
    return edit.region
