"""What a model costs, held against formulas by hand."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.costs.cost import Cost
from ablate_kit.costs.latency import Latency, TimingRounds, take_turns
from ablate_kit.costs.measure import cost_of, file_bytes, measure
from ablate_kit.costs.one_pass import flops_of, peak_bytes
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.reports.cost_reports.cost_table import busy, cost_table
from detector.data.dataset import Pixels
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.sweeps.execution.toy_adapter import Toy

IMAGE = np.zeros((24, 32, 3), dtype=np.uint8)
QUICK = TimingRounds(least=2, most=2, warm_up=1)


class Detector(Toy):
    """An adapter of any module that takes an image."""

    def prepare(self, image: Pixels) -> Prepared:
        return super().prepare(torch.from_numpy(image).permute(2, 0, 1)[None].float())


def counted(module: nn.Module, *shape: int) -> int:
    x = torch.zeros(shape)
    with inference(module):
        return flops_of(lambda: module(x), module)


def test_linear_flops_are_two_for_each_weight_and_row() -> None:
    assert counted(nn.Linear(7, 11), 5, 7) == 2 * 5 * 7 * 11


def test_convolution_flops_are_two_for_each_weight_and_place() -> None:
    # Of 12x8, padded to 14x8, a kernel of 5x3 fits on 10x6 places.
    module = nn.Conv2d(6, 4, (5, 3), padding=(1, 0), groups=2)
    assert counted(module, 2, 6, 12, 8) == 2 * 2 * (10 * 6) * (4 * 3 * 5 * 3)


def test_attention_flops_are_those_of_its_products() -> None:
    class Self(nn.MultiheadAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x, x, x, need_weights=False)[0]

    tokens, d = 10, 16
    projections, products = 4 * tokens * d * d, 2 * tokens * tokens * d
    assert counted(Self(d, 4, batch_first=True).eval(), 1, tokens, d) == 2 * (
        projections + products
    )


def test_a_parameter_that_is_handed_to_a_module_is_counted_and_stays_as_it_is() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.linear = nn.Parameter(torch.ones(3, 4)), nn.Linear(4, 2)

        def forward(self, _: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.linear(self.rows)
            return out

    table = Table()
    assert counted(table, 1) == 2 * 3 * 4 * 2
    assert all(one.requires_grad for one in table.parameters())


def test_peak_memory_is_that_of_the_two_largest_neighbors_and_the_weights() -> None:
    module = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 50), nn.Linear(50, 1))
    weights = 10 * 100 + 100 + 100 * 50 + 50 + 50 + 1
    x = torch.zeros(64, 10)
    with torch.no_grad():
        found = peak_bytes(lambda: module(x), module, {"x": x})
    assert found == 4 * (weights + 64 * 10 + 64 * 100 + 64 * 50)


def test_views_take_no_memory() -> None:
    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.view(-1).view(2, 8) + 1).t()

    x = torch.zeros(16)
    assert peak_bytes(lambda: Views()(x), Views(), {"x": x}) == 4 * (16 + 16)


def test_shared_parameters_count_once() -> None:
    first = nn.Conv2d(3, 3, 1)
    cost = cost_of(Detector(nn.Sequential(first, first)), IMAGE)
    assert cost.parameters == 3 * 3 + 3
    assert cost.flops == 2 * (2 * 3 * 3 * 24 * 32)
    assert cost.size == (24, 32)


class Clock:
    """A machine that grows slower and slower, by a clock of its own."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, 1.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, work: float) -> None:
        self.order.append(name)
        self.now += work * self.pace
        self.pace *= 1.001


def test_models_take_turns_and_ratios_are_of_one_round() -> None:
    clock = Clock()
    slow, fast = take_turns(
        [lambda: clock.run("slow", 4.0), lambda: clock.run("fast", 1.0)],
        TimingRounds(least=40, most=40, warm_up=2),
        clock=clock,
    )
    rounds = [clock.order[i : i + 2] for i in range(4, len(clock.order), 2)]
    assert clock.order[:4] == ["slow", "fast"] * 2  # not timed
    assert all(sorted(one) == ["fast", "slow"] for one in rounds)
    assert {one[0] for one in rounds} == {"fast", "slow"}
    assert len(slow.seconds) == len(fast.seconds) == len(rounds) == 40
    ratio = fast.against(slow)
    assert ratio.low <= ratio.value <= ratio.high
    # A twelfth slower at the end than at the begin, and the ratio does not see it.
    assert slow.seconds[-1] > 1.07 * slow.seconds[0]
    assert (ratio.low, ratio.high) == pytest.approx((0.25, 0.25), abs=0.0006)


def test_the_interval_of_a_ratio_covers_it_on_a_machine_that_drifts() -> None:
    generator = np.random.Generator(np.random.Philox(7))
    trials, rounds, held = 200, 20, 0
    for _ in range(trials):
        machine = np.exp(np.cumsum(generator.normal(0, 0.05, rounds)))
        slow, fast = (
            Latency(tuple(pace * machine * generator.lognormal(0, 0.05, rounds)))
            for pace in (1.0, 0.8)
        )
        found = fast.against(slow)
        held += found.low <= 0.8 <= found.high
    # 190 are expected; fewer than 178 in one of 10,000 samples.
    assert 178 <= held <= 199


def test_measuring_ends_after_its_time_but_not_before_the_fewest_rounds() -> None:
    def count(work: float) -> int:
        clock = Clock()
        (found,) = take_turns(
            [lambda: clock.run("", work)], TimingRounds(least=3, most=50, seconds=10.5), clock=clock
        )
        return len(found.seconds)

    assert [count(100.0), count(1.0), count(0.001)] == [3, 11, 50]


@pytest.mark.parametrize(("share", "idle"), [(0.25, 0.75), (1.0, 0.0), (2.0, 0.0)])
def test_that_others_used_the_processor_meanwhile_is_measured_and_said(
    share: float, idle: float
) -> None:
    clock = Clock()
    run = [lambda: clock.run("", 1.0)] * 2
    took, _ = take_turns(run, TimingRounds(), clock=clock, cpu=lambda: share * clock.now)
    assert took.idle == pytest.approx(idle)
    costs = [Cost(1, 1, (1, 1), {(device, 1): took}) for device in ("cpu", "cuda")]
    said = [" ".join(busy(one)) for one in costs]
    assert ("busy with other programs for 75% of the time" in said[0]) == (share < 1)
    assert said[1] == ""  # there the CPU waits for the device


def test_the_95th_percentile_is_not_the_median() -> None:
    found = Latency(tuple(float(i) for i in range(1, 101)))
    assert (found.median, found.p95) == (50.5, 95.05)


def test_a_smaller_model_beside_the_original() -> None:
    large, small = (
        Detector(nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, 2, 1)))
        for c in (8, 4)
    )
    before, after = measure([lambda _: large, lambda _: small], IMAGE, rounds=QUICK)
    assert (before.parameters, after.parameters) == (8 * 28 + 2 * 9, 4 * 28 + 2 * 5)
    assert before.flops == 2 * after.flops == 2 * 24 * 32 * (8 * 27 + 2 * 8)
    assert set(before.latency) == set(after.peak_bytes) == {("cpu", 1), ("cpu", 8)}
    # The input, and two maps at a time.
    one, eight = (after.peak_bytes["cpu", batch] for batch in (1, 8))
    assert eight - one == 7 * 4 * (24 * 32) * (3 + 4 + 4)
    (passes, *_) = after.to_dict(before)["passes"]
    assert passes["rounds"] == 2
    assert passes["ratio"]["low"] <= passes["ratio"]["value"] <= passes["ratio"]["high"]
    assert before.to_dict()["passes"][0]["ratio"] is None
    text = cost_table(before, after).text()
    assert re.search(r"parameters +242 +122 +0.504\n", text)
    assert "latency, cpu, batch 8: median" in text
    assert "bytes of the file" not in text
    assert "median over rounds" in text
    unmeasured = (replace(one, latency={}) for one in (before, after))
    assert "median over rounds" not in cost_table(*unmeasured).text()


def test_bytes_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    held = SHAPES_TINY.stat().st_size
    assert file_bytes(SHAPES_TINY) == held
    shutil.copy(SHAPES_TINY, tmp_path / "model.safetensors")
    for name in ("config.json", "optimizer.pt", "training_args.bin"):  # as a Trainer leaves them
        (tmp_path / name).write_bytes(b"{}" * 999)
    assert file_bytes(tmp_path) == held


def test_the_shipped_detector_has_the_parameters_of_its_file() -> None:
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        held = sum(one.numel for one in checkpoint.tensors.values())
        adapter = open_adapter(checkpoint)
    cost = cost_of(adapter, IMAGE)
    buffers = sum(one.numel() for one in adapter.module.buffers())
    assert cost.parameters + buffers == held
    assert cost.flops > 0
    assert file_bytes(SHAPES_TINY) > 4 * held
