"""Joint cuts against their members, and Shapley values, against their definitions."""

import csv
from itertools import combinations, permutations
from math import factorial

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.combination import Pairs
from ablate_kit.ablations.kinds.shapley import Shapley
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples, draws, left_out
from ablate_kit.reports.sweep_reports import joint_cuts, shapley_table
from tests.ablate_kit.made_up import result_of

IMAGES = 80
WEIGHTS = draws(IMAGES, 300, 0) / IMAGES
REST = left_out(IMAGES, IMAGES, 0) / (IMAGES - 1)
EFFECTS = {"a": -0.02, "b": -0.05, "c": -0.01, "d": 0.0, "e": 0.03, "f": -0.004, "g": 0.0}
PARTS = tuple(EFFECTS)


def samples_of(values: np.ndarray) -> Samples:
    """The mean over images as every metric."""
    one = Sampled(float(values.mean()), values @ WEIGHTS[:, 1:], values @ REST, IMAGES, ratio=True)
    return Samples(dict.fromkeys(KEYS, one), ())


class Game:
    """Parts whose effects add up in each image, but for two that stand in for each other."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.level = rng.normal(0.6, 0.2, IMAGES)
        self.own = {name: rng.normal(mean, 0.02, IMAGES) for name, mean in EFFECTS.items()}
        self.both = rng.normal(-0.1, 0.02, IMAGES)  # of b and c, on top

    def __call__(self, cut: frozenset[str]) -> np.ndarray:
        values = self.level + sum((self.own[name] for name in cut), np.zeros(IMAGES))
        return values + (self.both if {"b", "c"} <= cut else 0.0)

    def run(self, variants: list[Ablation]) -> tuple[list[Result], Samples, list[Samples]]:
        cuts = [frozenset(edit.tensor for edit in one.edits) for one in variants]
        baseline = samples_of(self(frozenset()))
        results = [
            result_of("unmodified"),
            *(result_of(one.name, one.kind, factors=one.factors) for one in variants),
        ]
        return results, baseline, [samples_of(self(cut)) for cut in cuts]

    def shapley(self, part: str, parts: tuple[str, ...] = PARTS) -> float:
        """By the definition: over all orders."""
        total = 0.0
        for order in permutations(parts):
            before = frozenset(order[: order.index(part)])
            total += float((self(before | {part}) - self(before)).mean())
        return total / factorial(len(parts))


ALONE = {name: Ablation(name, "component", (Edit(name),)) for name in PARTS}


def test_interactions_are_what_two_cut_beyond_both_alone() -> None:
    game = Game()
    results, baseline, samples = game.run([*ALONE.values(), *Pairs().combine(ALONE)])
    found = joint_cuts.joint_cuts(results, baseline, samples, "family")
    assert [one.members for one in found] == list(combinations(PARTS, 2))
    for one in found:
        a, b = one.members
        beyond = game.level + game(frozenset({a, b})) - game(frozenset({a})) - game(frozenset({b}))
        ap = one.interaction["AP"]
        assert ap.change == pytest.approx(beyond.mean(), abs=1e-12)
        if (a, b) == ("b", "c"):
            assert one.sort == "redundant"
            assert ap.low < beyond.mean() < ap.high < 0
        else:  # nothing but rounding
            assert one.sort == ""
            assert ap.change == pytest.approx(0, abs=1e-12)
    said = joint_cuts.sentence(found)
    assert said.startswith("of 21 joint cuts 1 redundant: together they cost more")
    assert "b and c (-0.1061 AP)" in said
    assert joint_cuts.sentence(found[:1]).startswith("the joint cut does not differ significantly")
    assert joint_cuts.table(found).rows[0][0] == "b + c"
    called = [joint_cuts.renamed(one, {"b": "neck (mean)"}) for one in found]
    assert joint_cuts.table(called).rows[0][0] == "neck (mean) + c"
    rows = list(csv.DictReader(joint_cuts.records(found).csv().splitlines()))
    assert len(rows) == 21 * len(KEYS)
    drawn = joint_cuts.figure(found)
    assert drawn is not None
    caption, figure = drawn
    assert "*: significant, adjusted for 21 joint cuts" in caption
    marked = [(*map(round, text.get_position()), text.get_text()) for text in figure.axes[0].texts]
    assert marked == [(2, 1, "*"), (1, 2, "*")]


def test_members_that_cost_more_than_all_are_not_said_to_need_each_other() -> None:
    """Each takes most of an AP of 0.6, and so both less than the sum, whatever they do."""
    rng = np.random.default_rng(2)
    level = rng.normal(0.6, 0.05, IMAGES)
    parts = {"a": level * 0.05, "b": level * 0.1, "c": level * 0.7}
    joint = {"a+b": level * 0.0, "a+c": level * 0.05, "b+c": level * 0.09}
    results = [result_of("unmodified"), *(result_of(one, "component") for one in parts)]
    for name in joint:
        one, other = name.split("+")
        results.append(result_of(name, "pairs", factors={"member_1": one, "member_2": other}))
    samples = [samples_of(values) for values in (*parts.values(), *joint.values())]
    found = joint_cuts.joint_cuts(results, samples_of(level), samples, "family")
    assert all(one.interaction["AP"].significant for one in found)
    assert [one.sort for one in found] == ["floor", "floor", "floor"]
    table = joint_cuts.table(found)
    assert "floor: alone the members cost more than all AP" in table.title
    assert table.title.startswith(
        "none of 3 joint cuts differs significantly in AP from the sum of its members but by what "
        "there is to lose; in 3 the members cost more than all AP alone, which says nothing"
    )
    _, figure = joint_cuts.figure(found)
    assert not figure.axes[0].texts
    little = {"a": level * 0.5, "b": level * 0.6, "c": level * 0.7}
    samples = [samples_of(values) for values in (*little.values(), *[level * 0.5] * 3)]
    found = joint_cuts.joint_cuts(results, samples_of(level), samples, "family")
    assert [one.sort for one in found] == ["complementary"] * 3


def test_without_joint_cuts_of_what_was_cut_alone_there_are_no_rows() -> None:
    results, baseline, samples = Game().run([*ALONE.values()])
    assert joint_cuts.joint_cuts(results, baseline, samples, "family") == []
    assert shapley_table.shapley_values(results, baseline, samples) == []
    results, baseline, samples = Game().run(Pairs().combine(ALONE))
    assert joint_cuts.joint_cuts(results, baseline, samples, "family") == []


@pytest.mark.parametrize("seed", range(3))
def test_shapley_values_are_those_of_the_definition_and_sum_to_all(seed: int) -> None:
    game = Game()
    made = Shapley(seed=seed).combine(ALONE)
    missing = [one for one in ALONE.values() if one.name not in {x.name for x in made}]
    results, baseline, samples = game.run([*made, *missing])
    found = shapley_table.shapley_values(results, baseline, samples)
    assert {one.part for one in found} == set(PARTS)
    for one in found:
        value = one.values["AP"]
        monte_carlo = value.deviation_draws / value.repeats**0.5
        assert value.repeats == 8
        assert abs(value.change - game.shapley(one.part)) <= 3 * monte_carlo + 1e-12
        assert one.alone["AP"] == pytest.approx(float(game.own[one.part].mean()), abs=1e-12)
    total = sum(one.values["AP"].change for one in found)
    everything = float((game(frozenset(PARTS)) - game.level).mean())
    assert total == pytest.approx(everything, abs=1e-12)
    table = shapley_table.table(found, "images")
    assert f"sum to {everything:+.4f} AP" in table.title
    assert "interval over images and permutations; errors of both" in table.title
    many = shapley_table.table([*found] * 3, "clusters")
    assert "permutations, at times too short, as parts are more; errors" in many.title
    assert "interval over clusters and permutations" in many.title
    assert "by clusters" in many.header
    assert table.rows[0][0] == "b"
    caption, figure = shapley_table.figure(found)
    assert "Filled, orange: significant after Holm's adjustment" in caption
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    filled = [str(dot.get_markerfacecolor()) != "white" for dot in dots]
    assert filled == ["*" in row[3] for row in table.rows]
    assert 0 < sum(filled) < len(filled)
    # Nothing of it counts as a joint cut that somebody asked for.
    assert joint_cuts.joint_cuts(results, baseline, samples, "family") == []


def test_orders_of_two_lines_are_none() -> None:
    """Recipes could have two lines once, whose orders have the same numbers."""
    game = Game()
    longer = Shapley(permutations=16).combine(ALONE)[-1]  # all parts, at the end of all orders
    others = {name: Ablation(name, "component", (Edit(name),)) for name in map(str, range(6))}
    shorter = Shapley(permutations=16).combine(others | {"a": ALONE["a"]})
    game.own |= dict.fromkeys(others, game.own["d"])
    shorter = [one for one in shorter if len(one.edits) < 7]
    results, baseline, samples = game.run([*shorter, longer])
    assert shapley_table.shapley_values(results, baseline, samples) == []


def test_of_few_parts_shapley_values_are_exact() -> None:
    game, few = Game(), PARTS[:4]
    made = Shapley().combine({name: ALONE[name] for name in few})
    results, baseline, samples = game.run(made)
    found = shapley_table.shapley_values(results, baseline, samples)
    assert {one.part for one in found} == set(few)
    for one in found:
        value = one.values["AP"]
        assert value.change == pytest.approx(game.shapley(one.part, few), abs=1e-12)
        assert (value.deviation_draws, value.error) == (0, value.error_images)
        assert value.low < value.change < value.high
    assert (
        "of 4 parts, exact, by all 15 subsets; they sum to"
        in shapley_table.table(found, "images").title
    )
