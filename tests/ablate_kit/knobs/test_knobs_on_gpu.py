"""Settings of a detector on a GPU: what they share is the same there, and costs are measured."""

from functools import partial

import pytest

from ablate_kit.costs.latency import TimingRounds
from ablate_kit.knobs.detect_settings import detect_settings
from ablate_kit.knobs.knob_run import cost_of_settings
from ablate_kit.knobs.knob_settings import Asked
from ablate_kit.models.inference.detect import detect_all
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import with_knobs
from tests.conftest import REAL_GPU

pytestmark = pytest.mark.usefixtures("gpu")


def test_settings_on_a_gpu_find_what_each_finds_alone() -> None:
    adapter, knobs = with_knobs(SHAPES_TINY, "cuda")
    settings = Asked(depth=True, queries=[20]).settings(knobs)
    family = [adapter, *(knobs.configured(one.knob, one.value) for one in settings)]
    dataset = Shapes(4)
    (found,), notes = detect_settings(knobs, [family], dataset, batch_size=2)
    assert notes == []
    for one, those in zip(family, found, strict=True):
        assert those.scores.tobytes() == detect_all(one, dataset, batch_size=2).scores.tobytes()


@pytest.mark.parametrize("gpu", [REAL_GPU], indirect=True)  # what is measured is real
def test_costs_on_a_gpu_beside_those_of_the_cpu() -> None:
    adapter, knobs = with_knobs(SHAPES_TINY)
    settings = Asked(depth=True).settings(knobs)
    rounds = TimingRounds(least=2, most=2, warm_up=1)
    opened = partial(with_knobs, SHAPES_TINY)
    whole, early, _ = cost_of_settings(
        opened, settings, Shapes(1), devices=("cpu", "cuda"), rounds=rounds
    )
    weights = sum(4 * one.numel() for one in adapter.module.parameters())
    for cost in (whole, early):
        assert set(cost.latency) == {(d, b) for d in ("cpu", "cuda") for b in (1, 8)}
        assert all(one.median > 0 for one in cost.latency.values())
        assert cost.peak_bytes["cuda", 8] > cost.peak_bytes["cuda", 1]
    assert whole.peak_bytes["cuda", 1] > weights
    assert early.parameters < whole.parameters
