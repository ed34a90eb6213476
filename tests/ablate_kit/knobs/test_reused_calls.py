"""Calls that several networks share are made once, and only those."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.costs.one_pass import flops_of
from ablate_kit.knobs.detect_settings import detect_settings
from ablate_kit.knobs.knob_settings import Asked, Setting
from ablate_kit.knobs.reused_calls import ReusedCalls
from ablate_kit.models.inference.detect import detect_all, inference
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import with_knobs

Folders = Callable[[str], Path]


class Chain(nn.Module):
    """So many of some layers, one after the other."""

    def __init__(self, layers: list[nn.Module], count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers[:count])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def chains() -> tuple[Chain, Chain]:
    layers: list[nn.Module] = [nn.Linear(3, 3) for _ in range(4)]
    return Chain(layers, 4), Chain(layers, 2)


def test_the_shorter_of_two_computes_nothing() -> None:
    long, short = chains()
    calls, x = ReusedCalls(), torch.ones(2, 3)
    with torch.no_grad():
        expected = short(x)
        with calls.within(long.layers):
            long(x)
        with calls.within(short.layers):
            assert torch.equal(short(x), expected)
            assert (calls.made, calls.spared) == (4, 2)
            short(x + 1)
            assert (calls.made, calls.spared) == (6, 2)
            with calls.paused():
                short(x)
            assert (calls.made, calls.spared) == (6, 2)
            calls.forget()
            short(x)
            assert (calls.made, calls.spared) == (8, 2)
    assert all("forward" not in vars(layer) for layer in long.layers)


def test_what_was_changed_in_place_is_computed_anew() -> None:
    long, short = chains()
    calls, x = ReusedCalls(), torch.ones(2, 3)
    with torch.no_grad(), calls.within(long.layers):
        expected = short(x).clone()
        long.layers[1](long.layers[0](x)).add_(1)
        assert torch.equal(short(x), expected)
        before = calls.made
        x.add_(1)
        short(x)
        assert calls.made > before


def test_another_argument_is_another_call() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor, by: float = 1.0) -> Tensor:
            return super().forward(x) * by

    layer = Scaled(3, 3)
    calls, x = ReusedCalls(), torch.ones(2, 3)
    with torch.no_grad(), calls.within([layer]):
        one, two = layer(x), layer(x, by=2.0)
        assert torch.equal(2 * one, two)
        assert torch.equal(layer(x, by=2.0), two)
    assert (calls.made, calls.spared) == (2, 1)


def test_lists_that_are_changed_after_a_call_or_by_it_do_no_harm() -> None:
    class Maps(nn.Linear):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [super().forward(x)]

    class Appends(nn.Linear):
        def forward(self, maps: list[Tensor]) -> Tensor:
            maps.append(super().forward(maps[0]))
            return maps[-1]

    maps, appends = Maps(3, 3), Appends(3, 3)
    calls, x = ReusedCalls(), torch.ones(2, 3)
    with torch.no_grad(), calls.within([maps, appends]):
        found = maps(x)
        appends(found)
        assert len(found) == 2
        again = maps(x)
        assert len(again) == 1
        assert calls.spared == 1
        appends(again)
        assert calls.spared == 2
        assert torch.equal(again[1], found[1])


def test_what_a_module_computes_ahead_tells_it_apart_by_value() -> None:
    class Scaled(nn.Linear):
        def __init__(self, by: float) -> None:
            super().__init__(3, 3)
            self.register_buffer("by", torch.tensor(by), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.by

    table, fewer = nn.Embedding(4, 3), nn.Embedding(2, 3)
    fewer.weight = nn.Parameter(table.weight[:2], requires_grad=False)  # in the same place
    one, same, other = Scaled(1.0), Scaled(1.0), Scaled(2.0)
    for copy in (same, other):
        copy.load_state_dict(one.state_dict(), assign=True)
    calls, x = ReusedCalls(), torch.ones(2, 3)
    with torch.no_grad(), calls.within([table, fewer, one, same, other]):
        table(torch.tensor([1]))
        fewer(torch.tensor([1]))
        assert calls.spared == 0
        expected = one(x)
        assert torch.equal(same(x), expected)
        assert calls.spared == 1
        assert torch.equal(other(x), 2 * expected)
        assert calls.spared == 1


@pytest.mark.parametrize("name", ["hybrid", "detr", "deformable_detr", "rt_detr_v2", "d_fine"])
def test_all_depths_take_the_operations_of_one_pass(folders: Folders, name: str) -> None:
    adapter, knobs = with_knobs(SHAPES_TINY if name == "hybrid" else folders(name))
    depths = range(1, knobs.now("depth"))
    adapters = [adapter, *(knobs.configured("depth", depth) for depth in depths)]
    for one in adapters:
        one.module.requires_grad_(False)
    image = Shapes(1).image(0)
    inputs = adapter.prepare(image).inputs
    calls = ReusedCalls()

    def every() -> None:
        for one in adapters:
            one.forward(inputs)

    with inference(adapter.module), ExitStack() as stack:
        alone = flops_of(lambda: adapter.forward(inputs), adapter.module)
        for one in adapters:
            stack.enter_context(calls.within(knobs.reusable(one)))
        together = flops_of(every, adapter.module)
    # A network may call a module twice on the same values itself.
    assert 0.9 * alone < together <= 1.15 * alone
    assert calls.spared


@pytest.mark.parametrize("name", ["hybrid", "deformable_detr", "d_fine"])
def test_settings_find_what_each_finds_alone(folders: Folders, name: str) -> None:
    adapter, knobs = with_knobs(SHAPES_TINY if name == "hybrid" else folders(name))
    now = knobs.now("queries")
    settings = Asked(depth=True, queries=[now, now // 2], size=[160]).settings(knobs)
    assert Setting("queries", now // 2) in settings
    assert settings[0] == Setting("depth", 1)
    made = [knobs.configured(one.knob, one.value) for one in settings]
    dataset = Shapes(3)
    passes: list[int] = []
    family, size = [adapter, *made[:-1]], made[-1]
    found, notes = detect_settings(
        knobs, [family, [size]], dataset, batch_size=2, advance=passes.append
    )
    assert notes == []
    assert sum(passes) == 3 * (len(settings) + 1)
    for one, those in zip([*family, size], [*found[0], *found[1]], strict=True):
        alone = detect_all(one, dataset, batch_size=2)
        assert those.boxes.tobytes() == alone.boxes.tobytes()
        assert those.scores.tobytes() == alone.scores.tobytes()
        assert those.labels.tobytes() == alone.labels.tobytes()


def test_settings_that_do_not_agree_run_whole() -> None:
    adapter, knobs = with_knobs(SHAPES_TINY)

    other = knobs.configured("depth", knobs.now("depth"))
    # What is no weight, and so does not tell two modules apart.
    other.module.decoder.layers[0].refine_scale *= 2
    dataset = Shapes(2)
    found, notes = detect_settings(knobs, [[adapter, other]], dataset, batch_size=2)
    assert len(notes) == 1
    assert "all of them run whole" in notes[0]
    assert found[0][1].scores.tobytes() == detect_all(other, dataset, batch_size=2).scores.tobytes()
