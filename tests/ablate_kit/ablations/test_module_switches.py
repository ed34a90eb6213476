"""Swapping keeps what both networks have, and says what became of the output."""

from math import inf
from typing import Any

import pytest
import torch

from ablate_kit.ablations.module_switches import grouped, parse_switches, swap
from ablate_kit.errors import UserError
from detector.config import HybridConfig, preset
from detector.network.model import HybridDetector

SMALL = preset("tiny").replace(
    num_classes=3, image_size=64, widths=[16, 32, 32, 32], d_model=32, queries=6,
    pgi_in_evaluation=False,
)  # fmt: skip


def shaken(config: HybridConfig) -> HybridDetector:
    """A model none of whose weights are what initialization gives."""
    model = HybridDetector(config, seed=5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def out(model: HybridDetector) -> torch.Tensor:
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        return model.eval()(image)["logits"]


@pytest.mark.parametrize(
    "words",
    [["csi=off"], ["pgi=off"], ["pgi=[1,3]"], ["gate_fuse=on"], ["stage2=sum"], ["aux_loss=off"]],
    ids=str,
)
def test_what_both_networks_have_is_kept_bit_for_bit(words: list[str]) -> None:
    original = shaken(SMALL)
    made = swap(original, parse_switches(words, SMALL))
    before, after = original.state_dict(), made.model.state_dict()
    assert set(made.kept) | set(made.dropped) == set(before)
    assert set(made.kept) | set(made.new) == set(after)
    assert made.new or made.dropped
    for name in made.kept:
        assert torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("word", ["csi=on", "pgi=on", "pgi=[2]", "encoder_layers=3"])
def test_a_module_that_only_adds_comes_in_without_a_change(word: str) -> None:
    original = shaken(SMALL.replace(csi=False, pgi=[]))
    made = swap(original, parse_switches([word], original.config))
    assert made.change == 0.0
    assert torch.equal(out(original), out(made.model))
    fresh = swap(original, parse_switches([word], original.config), init="fresh")
    assert fresh.change > 1e-3
    assert not torch.equal(out(original), out(fresh.model))


@pytest.mark.parametrize("word", ["denoising=on", "denoising=thesis", "query_objectness=on"])
def test_what_acts_in_training_only_comes_in_without_a_change(word: str) -> None:
    original = shaken(SMALL)
    made = swap(original, parse_switches([word], SMALL), init="fresh")
    assert made.change == 0.0
    assert sum(made.kept.values()) == sum(p.numel() for p in original.state_dict().values())
    assert made.new
    assert not made.dropped


def test_a_module_that_came_in_silently_learns() -> None:
    original = shaken(SMALL.replace(csi=False, pgi=[]))
    model = swap(original, {"csi": True, "pgi": [1]}).model.train()
    model(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))["logits"].sum().backward()
    for module in (model.backbone.csi.norm, model.backbone.pgi1.main_norm):
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("csi=on", "csi=off"),
        ("gate_fuse=on", "gate_fuse=off"),
        ("denoising=on", "denoising=none"),
        ("denoising=thesis", "denoising=off"),
    ],
)
def test_there_and_back_is_the_original_function(there: str, back: str) -> None:
    original = shaken(SMALL.replace(csi=False))
    model = swap(original, parse_switches([there], original.config), init="fresh").model
    returned = swap(model, parse_switches([back], model.config)).model
    assert returned.config == original.config
    assert torch.equal(out(original), out(returned))


def test_what_cannot_come_in_silently_says_so() -> None:
    original = shaken(SMALL)
    assert swap(original, {"stage2": "gate"}).change > 1e-3
    assert swap(original, {"boxes": "absolute"}).change > 1e-3
    assert swap(original, {"queries": 9}).change == inf


def test_new_modules_follow_from_the_seed() -> None:
    original = shaken(SMALL)
    one, same, other = (
        swap(original, {"stage2": "sum"}, seed=seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_names_are_grouped_by_the_largest_module_of_their_own() -> None:
    names = {"a.b.0.c.weight": 2, "a.b.1.c.weight": 3, "a.b.1.c.bias": 1, "a.z": 5, "q": 7}
    found = grouped(names, ["a.b.0.d", "a.b.1.d"])
    assert found == {"a.b.*.c": (3, 6), "a.z": (1, 5), "q": (1, 7)}


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("csi=off", {"csi": False}),
        ("pgi=off", {"pgi": [], "pgi_in_evaluation": False}),
        ("pgi=[1, 3]", {"pgi": [1, 3]}),
        ("gate_fuse=on", {"stage2": "gate"}),
        ("queries=9", {"queries": 9}),
    ],
)
def test_switches_are_read(word: str, changes: dict[str, Any]) -> None:
    assert parse_switches([word], SMALL) == changes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["csi"], 'cannot read the switch "csi"; expected NAME=VALUE'),
        (["gate_fuze=on"], 'unknown switch "gate_fuze"; did you mean "gate_fuse"'),
        (["gate_fuse=maybe"], 'gate_fuse is "maybe"; expected on or off'),
        (["csi=perhaps"], "csi is 'perhaps'; expected true or false"),
        (["csi=on"], "nothing to swap: csi=on is what the checkpoint has"),
        (["stage2=both"], "expected 'dcn' or 'sum' or 'gate'"),
        (["csi=["], "cannot read the value of the switch"),
    ],
)
def test_bad_switches_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        parse_switches(words, SMALL)
