"""The monitor in other people's loops: accumulation, scalers, wrappers, averages, closures."""

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, AdamW
from torch.optim.swa_utils import AveragedModel

from ablate_kit.errors import UserError
from ablate_kit.gradients.advice.advise import advise
from ablate_kit.gradients.diagnose import TensorReport, diagnose
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.gradients.parameter_names import named_parameters
from ablate_kit.gradients.region import region


def reports(monitor: GradientMonitor) -> dict[str, TensorReport]:
    return {tensor.name: tensor for tensor in diagnose(monitor.measured()).tensors}


def linear() -> nn.Linear:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(0.5)
    return layer


def test_accumulated_gradients_are_seen_whole_and_once() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=0.1)
    with GradientMonitor(layer, optimizer) as monitor:
        for batch in range(9):
            (layer.bias.sum() / 3 + 0 * layer.weight.sum()).backward()
            if batch % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
    found = reports(monitor)["bias"]
    assert (found.steps, found.gradients, found.updates) == (3, 3, 3)
    assert found.grad_norm == pytest.approx(2**0.5)
    assert "no_update" not in found.flags


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("scale", [2.0**10, 2.0**100])  # it doubles for as long as all is finite
def test_scaled_gradients_are_unscaled_and_skipped_steps_are_none(
    fused: bool, by_hand: bool, scale: float
) -> None:
    layer = linear()
    optimizer = AdamW(layer.parameters(), lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with GradientMonitor(layer, optimizer, interval=2) as monitor:
        for step in range(6):
            factor = float("inf") if step == 2 else 1.0
            scaler.scale((layer.bias * factor).sum() + layer.weight.sum()).backward()
            if by_hand:
                scaler.unscale_(optimizer)
                monitor.observe()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    found = reports(monitor)["bias"]
    assert found.verdict == "healthy"
    assert (found.steps, found.updates, found.bad_steps) == (5, 5, 0)
    assert found.grad_norm == pytest.approx(2**0.5)
    assert found.grad_max == pytest.approx(1.0)
    assert not found.dead_rows


@pytest.mark.parametrize("limit", [0.1, 1e6])
@pytest.mark.parametrize("by_hand", [False, True])
def test_advice_says_where_a_loop_clips(limit: float, *, by_hand: bool) -> None:
    """As transformers' Trainer does by default: norms are of the clipped gradients."""
    torch.manual_seed(0)
    layer = linear()
    optimizer = AdamW(layer.parameters(), lr=1e-3)
    with GradientMonitor(layer, optimizer) as monitor:
        for _ in range(8):
            layer(torch.randn(4, 3)).square().sum().backward()
            if by_hand:
                monitor.observe()
            nn.utils.clip_grad_norm_(layer.parameters(), limit)
            optimizer.step()
            optimizer.zero_grad()
    told = [one.sentence for one in advise(diagnose(monitor.measured())) if "clips" in one.sentence]
    if limit > 1 or by_hand:
        assert told == []
    else:
        assert told[0].startswith("In 8 of 8 steps all gradients together have a norm of 0.1: ")


def test_equal_gradients_are_not_said_to_be_clipped() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=1e-3)
    with GradientMonitor(layer, optimizer) as monitor:
        for _ in range(8):
            layer.weight.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not any("clips" in one.sentence for one in advise(diagnose(monitor.measured())))


def test_gradients_observed_before_clipping() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=0.1)
    norms = {}
    for by_hand in (False, True):
        with GradientMonitor(layer, optimizer) as monitor:
            (100 * layer.bias.sum() + layer.weight.sum()).backward()
            if by_hand:
                monitor.observe()
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        norms[by_hand] = reports(monitor)["bias"].grad_norm
        assert monitor.measured().clipped is not by_hand
    assert norms[False] == pytest.approx(1.0, abs=1e-3)
    assert norms[True] == pytest.approx(100 * 2**0.5)


def test_weights_swapped_between_steps_are_no_update() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=0.1)
    with GradientMonitor(layer, optimizer) as monitor:
        for _ in range(4):
            layer.bias.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                layer.weight.add_(1.0)  # as when an average is put in place
    weight, bias = reports(monitor)["weight"], reports(monitor)["bias"]
    assert (weight.updates, weight.verdict) == (0, "never_updated")
    assert bias.update_norm == pytest.approx(0.1 * 2**0.5)


def test_a_closure_is_observed_after_it_ran() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = 2 * layer.bias.sum() + layer.weight.sum()
        loss.backward()
        return loss.item()

    with GradientMonitor(layer, optimizer) as monitor:
        for _ in range(3):
            optimizer.step(closure)
    found = reports(monitor)["bias"]
    assert (found.gradients, found.updates) == (3, 3)
    assert found.grad_norm == pytest.approx(8**0.5)


def test_an_optimizer_of_another_kind() -> None:
    layer = linear()
    optimizer = LBFGS(layer.parameters())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (layer(torch.ones(1, 3)) - 3).square().sum()
        loss.backward()
        return loss

    with GradientMonitor(layer, optimizer) as monitor:
        optimizer.step(closure)
    assert reports(monitor)["bias"].updates == 1


def test_hooks_are_gone_afterwards_and_training_is_the_same() -> None:
    def train(watch: bool) -> torch.Tensor:
        layer = linear()
        optimizer = AdamW(layer.parameters(), lr=1e-2)
        monitor = GradientMonitor(layer, optimizer, compat=True)
        if watch:
            monitor.attach()
        for _ in range(5):
            layer(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        monitor.detach()
        assert monitor.measured().counters.steps == (5 if watch else 0)
        layer.bias.sum().backward()
        optimizer.step()
        assert monitor.measured().counters.steps == (5 if watch else 0)
        return layer.weight.detach()

    assert torch.equal(train(watch=True), train(watch=False))


def test_sparse_gradients() -> None:
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = SGD(table.parameters(), lr=0.1)
    with GradientMonitor(table, optimizer) as monitor:
        for _ in range(3):
            table(torch.tensor([0, 3])).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert reports(monitor)["weight"].dead_rows == (1, 2, 4)


class Compiled(nn.Module):
    """What torch.compile makes of a module, without compiling it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner


def test_names_without_wrappers() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    inner.add_module("module", nn.Linear(2, 2))  # of the user's own
    plain = [name for name, _, _ in named_parameters(inner)]
    assert "module.weight" in plain
    averaged = AveragedModel(nn.DataParallel(Compiled(inner)))
    assert [name for name, _, _ in named_parameters(averaged)] == plain
    inner[1] = Compiled(inner[1])
    assert [name for name, _, _ in named_parameters(inner)] == plain


def test_region() -> None:
    assert region("backbone.stage1.0.conv.weight", 2) == "backbone.stage1"
    assert region("level_embed", 2) == "level_embed"
    assert region("head.weight", 3) == "head"


def test_nothing_to_train_is_refused() -> None:
    layer = linear()
    optimizer = SGD(layer.parameters(), lr=0.1)
    with pytest.raises(UserError, match="no parameter to train"):
        GradientMonitor(nn.ReLU(), optimizer)
    with pytest.raises(UserError, match="interval is 0"):
        GradientMonitor(layer, optimizer, interval=0)
    with pytest.raises(UserError, match="a SGD and a Linear; expected a module and its"):
        GradientMonitor(optimizer, layer)
