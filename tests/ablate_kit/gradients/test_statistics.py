"""Every streaming statistic against the same number from all steps at once, in float64."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from ablate_kit.gradients.diagnose import diagnose
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.gradients.timeline import EDGES, SPANS

STEPS = 53  # not a multiple of the interval
EPSILON = 1e-6


class Mixed(nn.Module):
    """Shapes of all ranks, three of them alike, and one tensor large enough to be alone."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.shapes = [(), (7,), (7,), (7,), (4, 5), (3, 2, 2, 2), (300, 300)]
        for i, shape in enumerate(self.shapes):
            self.register_parameter(f"p{i}", nn.Parameter(torch.randn(shape, generator=draw)))


@dataclass
class Record:
    """All there is to know, in lists that grow, in float64."""

    gradients: list[torch.Tensor] = field(default_factory=list)
    before: list[torch.Tensor] = field(default_factory=list)
    after: list[torch.Tensor] = field(default_factory=list)


@pytest.fixture(scope="module")
def run() -> tuple[GradientMonitor, list[Record]]:
    model = Mixed()
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.3, eps=EPSILON)
    draw = torch.Generator().manual_seed(4)
    records = [Record() for _ in model.shapes]
    with GradientMonitor(model, optimizer, interval=10) as monitor:
        for _ in range(STEPS):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw) * 3 + 0.5
                if parameter.numel() > 1:
                    parameter.grad.flatten()[::3] = 0.0
            for record, parameter in zip(records, model.parameters(), strict=True):
                record.gradients.append(parameter.grad.double())
                record.before.append(parameter.detach().double().clone())
            optimizer.step()
            for record, parameter in zip(records, model.parameters(), strict=True):
                record.after.append(parameter.detach().double().clone())
    return monitor, records


def test_gradient_statistics(run: tuple[GradientMonitor, list[Record]]) -> None:
    monitor, records = run
    for found, record in zip(diagnose(monitor.measured()).tensors, records, strict=True):
        norms = [g.norm().item() for g in record.gradients]
        stds = [g.std().item() if g.numel() > 1 else 0.0 for g in record.gradients]
        expected = {
            "grad_norm": np.mean(norms),
            "grad_rms": np.mean(norms) / found.elements**0.5,
            "grad_norm_min": min(norms),
            "grad_norm_max": max(norms),
            "grad_mean": np.mean([g.mean().item() for g in record.gradients]),
            "grad_std": np.mean(stds),
            "grad_max": max(g.abs().max().item() for g in record.gradients),
            "grad_zero": np.mean([(g == 0).double().mean().item() for g in record.gradients]),
            "high": np.mean([norm > 10 for norm in norms]),
        }
        for name, value in expected.items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_update_statistics_are_net_of_decay(run: tuple[GradientMonitor, list[Record]]) -> None:
    monitor, records = run
    kept = 1 - 1e-3 * 0.3
    for found, record in zip(diagnose(monitor.measured()).tensors, records, strict=True):
        pairs = list(zip(record.before, record.after, strict=True))
        steps = [(after - before * kept).norm().item() for before, after in pairs]
        ratios = [s / after.norm().item() for s, (_, after) in zip(steps, pairs, strict=True)]
        assert found.update_norm == pytest.approx(np.mean(steps), rel=1e-3)
        assert found.update_ratio == pytest.approx(np.mean(ratios), rel=1e-3)
        change = (record.after[-1] - record.before[0]).abs()
        assert found.change_max == pytest.approx(change.max().item(), rel=1e-4)
        assert found.change_mean == pytest.approx(change.mean().item(), rel=1e-4)
        assert found.norm_start == pytest.approx(record.before[0].norm().item(), rel=1e-6)
        assert found.mean_start == pytest.approx(record.before[0].mean().item(), rel=1e-4)
        assert found.mean_now == pytest.approx(record.after[-1].mean().item(), rel=1e-4)
        assert (found.steps, found.gradients, found.updates) == (STEPS, STEPS, STEPS)


def test_largest_gradient_of_each_row(run: tuple[GradientMonitor, list[Record]]) -> None:
    monitor, records = run
    for rows, record in zip(monitor.measured().rows, records, strict=True):
        largest = torch.stack(record.gradients).abs().amax(0)
        expected = largest.reshape(largest.shape[0] if largest.ndim else 1, -1).amax(1)
        np.testing.assert_allclose(rows, expected.numpy(), rtol=1e-6)


def test_timeline_and_histogram(run: tuple[GradientMonitor, list[Record]]) -> None:
    monitor, records = run
    timeline = monitor.measured().timeline
    assert timeline.length == 1
    assert timeline.ratios.sum() == STEPS * len(records)
    norms = np.array([[g.norm().item() for g in record.gradients] for record in records]).T
    np.testing.assert_allclose(timeline.norms(), norms, rtol=1e-5)
    ratios = [
        np.log10((after - before * (1 - 3e-4)).norm().item() / after.norm().item())
        for record in records
        for before, after in zip(record.before, record.after, strict=True)
    ]
    counts = np.histogram(np.clip(ratios, EDGES[0], EDGES[-1]), EDGES)[0]
    assert np.abs(timeline.ratios - counts).sum() <= 4  # two on an edge, at most


def test_a_long_run_keeps_a_bounded_timeline() -> None:
    parameter = nn.Parameter(torch.ones(2))
    holder = nn.ParameterList([parameter])
    optimizer = AdamW([parameter], lr=1e-4)
    steps = 4 * SPANS + 7
    with GradientMonitor(holder, optimizer) as monitor:
        for step in range(steps):
            parameter.grad = torch.full((2,), float(step))
            optimizer.step()
    timeline = monitor.measured().timeline
    norms = timeline.norms()[:, 0]
    assert len(norms) <= SPANS
    assert timeline.length == 8
    sums = np.add.reduceat(np.arange(steps), np.arange(0, steps, 8))
    counts = np.add.reduceat(np.ones(steps), np.arange(0, steps, 8))
    np.testing.assert_allclose(norms, sums / counts * 2**0.5, rtol=1e-6)


def test_few_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One per interval, whatever the number of tensors."""
    transfers = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: (transfers.append(1), cpu(self))[1])
    for name in ("item", "tolist", "__bool__", "__float__", "numpy"):
        original = getattr(torch.Tensor, name)
        if name != "numpy":  # of a tensor that is here already
            monkeypatch.setattr(
                torch.Tensor,
                name,
                lambda self, original=original: (transfers.append(1), original(self))[1],
            )
    model = Mixed()
    optimizer = AdamW(model.parameters(), lr=1e-3, foreach=True, capturable=False)
    with GradientMonitor(model, optimizer, interval=10) as monitor:
        hooks = (monitor._before, monitor._after)
        for _ in range(20):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            for hook in hooks:
                hook(optimizer, (), {})
    assert len(transfers) == 2
