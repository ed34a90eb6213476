"""Parameter groups and the schedule."""

import itertools
import math

import pytest
import torch

from detector.config import preset
from detector.network.model import HybridDetector
from detector.training.optim import learning_rate_factor, offset_parameters, parameter_groups
from detector.training.recipes.train_recipe import MULTIPLIERS


@pytest.fixture(scope="module")
def model() -> HybridDetector:
    return HybridDetector(preset("thesis"))


def group_of(model: HybridDetector) -> dict[str, str]:
    """The group of every parameter."""
    groups = parameter_groups(model, 1e-4, 0.02, MULTIPLIERS)
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: str(group["name"]) for group in groups for p in group["params"]}


def test_every_parameter_is_in_exactly_one_group(model: HybridDetector) -> None:
    groups = parameter_groups(model, 1e-4, 0.02, MULTIPLIERS)
    members = [id(p) for group in groups for p in group["params"]]
    assert len(members) == len(set(members))
    assert set(members) == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("backbone.stem.conv1.weight", "backbone.decay"),
        ("backbone.stage0.0.norm.weight", "backbone"),
        ("backbone.stage0.0.channel_attention.reduce.bias", "backbone"),
        ("backbone.stage0.0.channel_attention.residual_logit", "scalars"),
        ("backbone.stage0.0.scale.weight", "layer_scale"),
        ("backbone.stage1.0.deform.offset_mask.weight", "dcn_offsets"),
        ("backbone.pgi1.gate", "backbone"),
        ("backbone.pgi1.lambda_logit", "scalars"),
        ("backbone.csi.weight", "backbone"),
        ("backbone.stage3.0.attention1.layers.0.attn.qkv.weight", "backbone.decay"),
        ("backbone.stage3.0.attention1.layers.0.attn.relative_position_bias", "position_bias"),
        ("neck.repeats.0.top_blocks.0.conv.weight", "neck.decay"),
        ("neck.repeats.0.top_fuse.0.log_tau", "scalars"),
        ("neck.upsample.0.edge_scale.weight", "layer_scale"),
        ("level_embed", "embeddings"),
        ("queries.content", "embeddings"),
        ("queries.reference.weight", "transformer.decay"),
        ("decoder.layers.0.self_attn.in_proj_weight", "transformer.decay"),
        ("decoder.layers.0.self_attn.in_proj_bias", "transformer"),
        ("decoder.layers.0.cross_attn.sampling_offsets.bias", "sampling_bias"),
        ("decoder.layers.0.cross_attn.sampling_offsets.weight", "transformer.decay"),
        ("decoder.layers.0.norm1.weight", "transformer"),
        ("decoder.layers.0.scale1.weight", "layer_scale"),
        ("heads.main.class_head.weight", "transformer.decay"),
    ],
)
def test_parameters_are_grouped_by_what_they_are(
    model: HybridDetector, name: str, group: str
) -> None:
    assert group_of(model)[name] == group


def test_the_parameters_of_gate_fuse_are_grouped_by_what_they_are() -> None:
    model = HybridDetector(preset("tiny").replace(stage2="gate"))
    inside = {
        name.split(".gate.")[1]: group
        for name, group in group_of(model).items()
        if name.startswith("backbone.stage2.0.gate.")
    }
    for name in ("attention_logit", "deform_logit", "kernel_gate.log_temperature"):
        assert inside[name] == "scalars"
    for name in ("scale.weight", "refine_scale.weight"):
        assert inside[name] == "layer_scale"
    assert inside["kernel_gate.reduce.weight"] == inside["mix.weight"] == "backbone.decay"


def test_rates_and_decay_of_the_groups(model: HybridDetector) -> None:
    groups = {g["name"]: g for g in parameter_groups(model, 1e-4, 0.02, MULTIPLIERS)}
    assert groups["backbone.decay"]["lr"] == pytest.approx(5e-5)
    assert groups["transformer.decay"]["lr"] == pytest.approx(2e-4)
    assert groups["position_bias"]["lr"] == pytest.approx(5e-4)
    for name, group in groups.items():
        assert group["weight_decay"] == (0.02 if str(name).endswith(".decay") else 0.0)


def test_offsets_are_those_of_both_deformable_ops(model: HybridDetector) -> None:
    # 2 tensors for each of 6 DCNv4 layers, and for each of 6 deformable attentions.
    assert len(offset_parameters(model)) == 24


def test_the_schedule_warms_up_and_then_falls_like_a_cosine() -> None:
    factors = [learning_rate_factor(step, 10, 110, 0.01, 0.05) for step in range(111)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[5] == pytest.approx(0.505)
    assert factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.05 + 0.95 * (1 + math.cos(math.pi / 2)) / 2)
    assert factors[110] == pytest.approx(0.05)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


def test_without_warm_up_it_starts_at_the_full_rate() -> None:
    assert learning_rate_factor(0, 0, 10, 0.01, 0.1) == pytest.approx(1.0)


def test_building_a_model_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = (HybridDetector(preset("tiny"), seed=3) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    other = HybridDetector(preset("tiny"), seed=4)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.queries.content, other.queries.content)
