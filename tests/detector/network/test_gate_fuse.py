"""GateFuse against the thesis' definition, and each of its switches."""

import math

import pytest
import torch
from torch import Tensor

from detector.config import HybridConfig, preset
from detector.errors import UserError
from detector.network.legacy import GATE_FUSE, GATE_FUSE_VARIANT
from detector.network.model import HybridDetector
from detector.network.modules.gate_fuse import GateFuse

THESIS = preset("thesis").replace(**GATE_FUSE_VARIANT)
SMALL = HybridConfig(
    num_classes=3, image_size=64, widths=(16, 64, 16, 16), depths=(1, 1, 2, 1), attention_heads=2,
    attention_depth=1, d_model=32, heads=4, neck_repeats=1, queries=6, decoder_layers=2,
)  # fmt: skip


def filled(gate: GateFuse) -> GateFuse:
    """Each of the notebooks' tensors, by their names in order, as 0.1 sin(0.7 j + 0.013 n)."""
    state = gate.double().state_dict()
    theirs = {
        f"{there}{name.removeprefix(here)}": name
        for here, there in GATE_FUSE.items()
        for name in state
        if name == here or name.startswith(f"{here}.")
    }
    assert len(theirs) == len(state) == 25
    for j, there in enumerate(sorted(theirs)):
        value = state[theirs[there]]
        n = torch.arange(value.numel(), dtype=torch.float64)
        value.copy_((0.1 * torch.sin(0.7 * j + 0.013 * n)).reshape(value.shape))
    return gate.eval()


def maps() -> tuple[Tensor, Tensor]:
    n = torch.arange(2 * 128 * 6 * 5, dtype=torch.float64).reshape(2, 128, 6, 5)
    return torch.sin(0.01 * n), torch.cos(0.017 * n)


def test_it_computes_what_the_thesis_module_computes() -> None:
    gate = filled(GateFuse(128, THESIS))
    with torch.no_grad():
        y = gate(*maps())
        shares, deform = gate.attention_share(), gate.deform_share()
    # Measured on the thesis' own module in float64, with the same weights and inputs.
    assert y.sum().item() == pytest.approx(-4.963351725206, rel=1e-10)
    assert y.abs().sum().item() == pytest.approx(3025.195761030655, rel=1e-10)
    assert y.square().sum().item() == pytest.approx(1809.606120178253, rel=1e-10)
    points = [y[0, 0, 0, 0], y[0, 64, 3, 2], y[1, 127, 5, 4]]
    expected = [0.525152920825, 0.262554319962, 0.543454826693]
    assert [float(point) for point in points] == pytest.approx(expected, abs=1e-11)
    assert shares.tolist() == pytest.approx([0.5202648, 0.5205750, 0.5208817, 0.5211848], abs=1e-7)
    assert float(deform) == pytest.approx(0.4672314, abs=1e-7)


def test_shares_at_the_start() -> None:
    gate = GateFuse(128, THESIS)
    assert gate.attention_share().tolist() == pytest.approx([0.626] * 4)
    assert gate.deform_share().tolist() == pytest.approx([0.24])


@pytest.mark.parametrize("switch", ["gate_kernels", "gate_spatial", "gate_deform_share"])
def test_a_gate_that_is_off_is_a_constant_and_has_no_parameters(switch: str) -> None:
    off = GateFuse(128, THESIS.replace(**{switch: False}))
    on = GateFuse(128, THESIS)
    missing, unexpected = on.load_state_dict(off.state_dict(), strict=False)
    assert missing
    assert not unexpected
    # With gates that let nothing depend on the map, the two are one function.
    with torch.no_grad():
        if on.kernel_gate is not None and switch == "gate_kernels":
            on.kernel_gate.expand.weight.zero_()
        if on.spatial_gate is not None and switch == "gate_spatial":
            on.spatial_gate.depthwise.weight.zero_()
        d, a = (x.float() for x in maps())
        torch.testing.assert_close(on(d, a), off(d, a), rtol=1e-4, atol=1e-5)


def test_the_attention_branch_learns_a_tenth_faster() -> None:
    gate = filled(GateFuse(128, THESIS))
    d, a = (x.requires_grad_() for x in maps())
    step = 1e-6 * torch.sin(torch.arange(a.numel(), dtype=torch.float64)).reshape(a.shape)
    with torch.no_grad():  # the pooled map sends no gradient on purpose
        gate.kernel_gate.expand.weight.zero_()
    (slope,) = torch.autograd.grad(gate(d, a).sum(), a)
    with torch.no_grad():
        rise = (gate(d, a + step) - gate(d, a - step)).sum() / 2
    assert float((slope * step).sum() / rise) == pytest.approx(1.1, rel=1e-4)


ARMS = {
    "dcn": {},
    "dcn without norm": {"stage2_deform_norm": False},
    "sum": {"stage2": "sum"},
    "sum without norm": {"stage2": "sum", "stage2_deform_norm": False},
    "gated with norm": {"stage2": "gate"},
    "gated": {"stage2": "gate", "stage2_deform_norm": False},
    "gated, dropout": {"stage2": "gate", "stage2_deform_norm": False, "stage2_dropout": True},
    "no kernel gate": {"stage2": "gate", "gate_kernels": False},
    "no spatial gate": {"stage2": "gate", "gate_spatial": False},
    "no deform share": {"stage2": "gate", "gate_deform_share": False},
}


def test_every_arm_computes_something_else_and_learns_everywhere() -> None:
    image = torch.sin(0.011 * torch.arange(2 * 3 * 64 * 64).float()).reshape(2, 3, 64, 64)
    outputs = {}
    for name, changes in ARMS.items():
        model = HybridDetector(SMALL.replace(**changes), seed=1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for block in model.backbone.stage2:
                if name != "no deform share" and block.gate is not None:
                    block.gate.deform_logit.data += 0.5  # both start at the same value
            (p3, p4, p5, _), _ = model.train().backbone(image)
        (p3.square().mean() + p4.square().mean() + p5.square().mean()).backward()
        for parameter, value in model.backbone.stage2.named_parameters():
            assert value.grad is not None, (name, parameter)
            assert value.grad.abs().sum() > 0, (name, parameter)
        outputs[name] = p4.detach()
    names = list(outputs)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not torch.allclose(outputs[one], outputs[other], atol=1e-4), (one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate_spatial": False}, 'gate_spatial is a part of stage2 "gate"; stage2 is "dcn"'),
        ({"stage2_dropout": True}, 'stage2 "dcn" does not have'),
        ({"stage2": "sum", "stage2_dropout": True, "drop_path": 0.0}, "drop_path, which is 0"),
        ({"stage2": "sum", "widths": [16, 224, 16, 16]}, "expects a multiple of its 3 heads"),
        ({"stage2": "gates"}, "expected 'dcn' or 'sum' or 'gate'"),
    ],
)
def test_switches_without_effect_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SMALL.replace(**changes)


def test_the_temperatures_are_clamped() -> None:
    gate = GateFuse(128, THESIS)
    with torch.no_grad():
        gate.attention_log_temperature.fill_(math.log(100.0))
    hot = gate.attention_share()
    with torch.no_grad():
        gate.attention_log_temperature.fill_(math.log(2.5))
    torch.testing.assert_close(hot, gate.attention_share())
