"""The average follows its formula, and comes and goes without a trace."""

import copy

import pytest
import torch
from torch import nn

from detector.training.ema import Ema, ema_decay


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def test_the_decay_grows_to_its_limit() -> None:
    assert ema_decay(0, 0.999) == 0.1
    assert ema_decay(5, 0.999) == 6 / 15
    assert ema_decay(10**6, 0.999) == 0.999


def test_the_average_is_the_weighted_sum_of_all_weights() -> None:
    net = model()
    ema = Ema(net, 0.9)
    expected = net[0].weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            net[0].weight.add_(step)
            net[1].running_mean.fill_(step)
        ema.update(net, step)
        d = ema_decay(step, 0.9)
        expected = d * expected + (1 - d) * net[0].weight.detach()
    torch.testing.assert_close(ema.average["0.weight"], expected)
    assert ema.average["1.running_mean"].tolist() == [199, 199]


def test_the_models_own_weights_come_back_to_the_bit() -> None:
    net = model()
    ema = Ema(net, 0.9)
    with torch.no_grad():
        net[0].weight.mul_(1 / 3)
    before = copy.deepcopy(net.state_dict())
    with ema.applied(net):
        assert torch.equal(net[0].weight, ema.average["0.weight"])
        assert not torch.equal(net[0].weight, before["0.weight"])
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_the_state_is_that_of_the_same_model() -> None:
    ema, other = Ema(model(), 0.9), Ema(model(), 0.9)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.average["0.weight"], ema.average["0.weight"])
    with pytest.raises(ValueError, match="another model"):
        other.load_state_dict({})
    with pytest.raises(ValueError, match="expected 0 <= decay < 1"):
        Ema(model(), 1.0)
