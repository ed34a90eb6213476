"""``compat`` counts what the notebook's rules count, blind spots included."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from ablate_kit.compat.notebooks.gradient_categories import CATEGORIES, HEALTHY
from ablate_kit.gradients.diagnose import diagnose
from ablate_kit.gradients.monitor import GradientMonitor


@dataclass
class Naive:
    """One tensor's record by the notebook's published rules, step by step, in Python."""

    start: Tensor
    last: Tensor
    norms: list[float] = field(default_factory=list)
    updates: int = 0
    stuck: int = 0

    def step(self, gradient: Tensor | None, now: Tensor) -> None:
        if gradient is not None:
            self.norms.append(gradient.norm().item())
        if (now - self.last).abs().max().item() > 1e-8:
            self.updates += 1
            self.last = now.clone()
        elif self.norms and self.norms[-1] > 0:
            self.stuck += 1

    def categories(self) -> set[str]:
        n = len(self.norms)

        def share(low: float, high: float) -> float:
            return sum(low <= norm < high for norm in self.norms) / n if n else 0.0

        vanishing = sum(norm < 1e-7 for norm in self.norms)
        unchanged = (self.last - self.start).abs().max().item() < 1e-6 and n > 10
        found = {
            "never_updated": self.updates == 0,
            "vanishing_grad": n > 0 and vanishing / n > 0.5,
            "low_grad": share(1e-7, 1e-5) > 0.5,
            "no_update_despite_grad": self.stuck > 5,
            "unchanged_from_init": unchanged,
            "high_grad": n > 0 and sum(norm > 10 for norm in self.norms) / n > 0.1,
            HEALTHY: self.updates > 5 and vanishing < 0.1 * n and not unchanged,
        }
        return {name for name, there in found.items() if there}


def odd_gradients(step: int) -> list[float | None]:
    """One gradient per tensor and step: each of the notebook's cases, and those that fool it."""
    return [
        1.0,  # learns
        None,  # takes no part
        0.0,  # exactly zero
        1e-9,  # vanishes, and its steps are rounded away
        1e-6,  # low
        100.0,  # high
        5e-8,  # drifts under the limit
        1.0 if step < 12 else None,  # stops
        math.nan,  # from the start
        1.0 if step < 20 else math.nan,  # later
        1e-8 if step % 5 < 2 else 1e-6,  # 40 % vanishing
        math.inf,
    ]


@pytest.mark.parametrize("steps", [4, 30])
def test_categories_are_the_naive_ones(steps: int) -> None:
    count = len(odd_gradients(0))
    parameters = [nn.Parameter(torch.full((3,), 0.01)) for _ in range(count)]
    parameters[6] = nn.Parameter(torch.full((3,), 1e-4))
    model = nn.ParameterList(parameters)
    optimizer = SGD(model.parameters(), lr=0.1)
    naive = [Naive(p.detach().clone(), p.detach().clone()) for p in parameters]
    with GradientMonitor(model, optimizer, compat=True, interval=7) as monitor:
        for step in range(steps):
            for parameter, value in zip(parameters, odd_gradients(step), strict=True):
                parameter.grad = None if value is None else torch.full((3,), value)
            optimizer.step()
            for one, parameter in zip(naive, parameters, strict=True):
                one.step(parameter.grad, parameter.detach())
    diagnosis = diagnose(monitor.measured())
    expected = [one.categories() for one in naive]
    assert [set(tensor.notebook) for tensor in diagnosis.tensors] == expected
    if steps == 30:
        assert set.union(*expected) == {*CATEGORIES, HEALTHY}
        # What it takes for healthy, and is not.
        assert expected[9] == {HEALTHY}
        assert diagnosis.tensors[9].verdict == "non_finite"
    notebook = diagnosis.measured.notebook
    assert notebook is not None
    assert {name: int(members.sum()) for name, members in notebook.items()} == {
        name: sum(name in one for one in expected) for name in (*CATEGORIES, HEALTHY)
    }


def test_without_compat_nothing_is_counted() -> None:
    layer = nn.Linear(2, 2)
    monitor = GradientMonitor(layer, SGD(layer.parameters(), lr=0.1))
    assert monitor.measured().notebook is None
    assert np.all(monitor.measured().counters.present == 0)
