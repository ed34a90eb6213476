"""What a sweep says before it is run, and on its way."""

from types import SimpleNamespace
from typing import Any

from ablate_kit.reports.sweep_reports.plan_text import looked, plan_text, screening, searched
from ablate_kit.sweeps.estimates.pass_cost import PassCost
from ablate_kit.sweeps.estimates.sweep_size import SweepSize
from ablate_kit.sweeps.scheduling.race import Look

ROWS = [("a", "encoder", "unmodified", 0.5), ("b", "decoder", "a", 0.25)]


def test_a_plan_says_what_comes_on_top_of_its_passes() -> None:
    plan = plan_text(PassCost(ROWS, 0.55, 1, [], decoding=0.6), SweepSize(2, [(2, 7)], 3), 1000)
    assert [" ".join(line.split()) for line in plan.splitlines()[2:]] == [
        "a encoder unmodified 50.0%",
        "b decoder a 25.0%",
        "2 variants on 1,000 images; 1 part; forward passes cost 55.0% of running all in full, "
        "after the first batch",
        "decoding takes 60% of a variant's time; replay saves none of it",
        "a greedy search comes on top: 2 rounds, 7 variants",
        "joint cuts of what is missed least come on top: 3",
    ]
    alone = plan_text(PassCost([], 1.0, 1, []), SweepSize(1, [], 0), 5)
    assert alone == "1 variant, each in full"


def test_what_is_screened_is_no_more_than_there_is() -> None:
    section: Any = SimpleNamespace(images=32, keep=20, sample=10)
    assert screening(section, 12, 8) == (
        "12 ablations are screened by gradients on 8 images; the 12 with the largest estimates and "
        "10 drawn are evaluated"
    )


def test_a_look_tells_what_stopped() -> None:
    stopped = [("a", "free"), ("b", "costs"), ("c", "free")]
    assert looked(Look(32, stopped, 7)) == "look at 32 images: 1 costs, 2 free; 7 left"
    assert looked(Look(1, [], 7)) == "look at 1 image: none is decided; 7 left"


def test_a_search_is_a_line_for_each_head() -> None:
    line = SimpleNamespace(pattern="d.*\n", metric="AP")
    steps = [
        SimpleNamespace(module="d.0", head=3, value=0.5),
        SimpleNamespace(module="d.1", head=0, value=None),
    ]
    found: Any = [(line, steps)]
    assert searched(found).splitlines() == [
        r"greedy removal of heads of d.*\n, each time the one without which AP stays highest:",
        "    1  d.0 head 3  0.5000",
        "    2  d.1 head 0  -",
    ]
