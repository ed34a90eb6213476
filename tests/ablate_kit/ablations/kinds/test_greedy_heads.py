"""Greedy removal tries every head that is left, and keeps the best; heads and units that stay."""

from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.greedy_heads import HeadsGreedy, Removal, Values
from ablate_kit.ablations.kinds.retain import HeadsRetained, UnitsRetained
from ablate_kit.errors import UserError

HEADS = 4
TENSORS = {
    f"layers.{i}.{name}": torch.zeros(shape)
    for i in range(2)
    for name, shape in (("in_proj_weight", (24, 8)), ("out_proj.weight", (8, 8)))
}
Make = Callable[..., list[Ablation]]  # see conftest.made


def rounds_of(steps: int | None) -> Generator[list[Ablation], Values, list[Removal]]:
    source: Any = SimpleNamespace(attentions=lambda *_: attentions(TENSORS, heads=HEADS))
    return HeadsGreedy(pattern="x", steps=steps).rounds(source)


def removed(ablation: Ablation) -> frozenset[tuple[int, int]]:
    """(layer, head) of all heads that an ablation removes."""
    return frozenset(
        (int(edit.tensor.split(".")[1]), start // 2)
        for edit in ablation.edits
        for start, _ in edit.region.ranges
    )


def value(heads: frozenset[tuple[int, int]]) -> float:
    """A made-up metric in which heads help each other."""
    worth = np.random.Generator(np.random.Philox(7)).random((8, 8))
    kept = [4 * i + j for i in range(2) for j in range(4) if (i, j) not in heads]
    return float(worth[np.ix_(kept, kept)].sum())


def search(steps: int | None = None) -> tuple[list[Removal], list[int]]:
    rounds = rounds_of(steps)
    tried, sizes = next(rounds), []
    while True:
        sizes.append(len(tried))
        assert len({one.digest for one in tried}) == len(tried)
        try:
            tried = rounds.send({one.digest: value(removed(one)) for one in tried})
        except StopIteration as end:
            return end.value, sizes


def test_each_step_removes_what_is_missed_least() -> None:
    steps, sizes = search()
    assert sizes == [8, 7, 6, 5, 4, 3, 2]
    gone: frozenset[tuple[int, int]] = frozenset()
    for number, step in enumerate(steps, start=1):
        left = {(i, j) for i in range(2) for j in range(4)} - gone
        best = max(left, key=lambda one: value(gone | {one}))
        assert removed(step.ablation) == gone | {best}
        assert (step.module, step.head) == (f"layers.{best[0]}", best[1])
        assert step.value == value(gone | {best})
        assert step.ablation.name == f"x-greedy-{number}of8-r0"
        gone |= {best}
    assert search(3)[0] == steps[:3]


def test_the_same_heads_are_the_same_ablation_in_any_order() -> None:
    """So that what one search has evaluated no other runs again."""
    rounds = rounds_of(3)
    next(rounds)
    orders = []
    for first, second in ((1, 6), (6, 1)):
        rounds = rounds_of(3)
        tried = next(rounds)
        second_round = rounds.send({one.digest: float(i == first) for i, one in enumerate(tried)})
        chosen = [one for one in second_round if one.name.endswith(f"try{second}")]
        orders.append(chosen[0].digest)
    assert orders[0] == orders[1]


def test_undefined_values_are_the_worst_and_ties_go_to_the_first() -> None:
    rounds = rounds_of(2)
    tried = next(rounds)
    values: dict[str, float | None] = {one.digest: None for one in tried}
    tried = rounds.send(values | {tried[5].digest: -1.0})
    with pytest.raises(StopIteration) as end:
        rounds.send({one.digest: 0.5 for one in tried})
    first, second = end.value.value
    assert (first.module, first.head) == ("layers.1", 1)
    assert (second.module, second.head) == ("layers.0", 0)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(UserError, match="9 steps for the 8 heads of x; give fewer"):
        rounds_of(9)


def test_where_there_is_one_head_that_one_is_removed() -> None:
    layer = {name: one for name, one in TENSORS.items() if name.startswith("layers.0")}
    source: Any = SimpleNamespace(attentions=lambda *_: attentions(layer, heads=1))
    (only,) = next(HeadsGreedy(pattern="x").rounds(source))
    assert removed(only) == {(0, 0)}


def test_heads_that_stay_are_nested(made: Make) -> None:
    kind = HeadsRetained(pattern="layers.*", num_heads=HEADS, keep=[0, 1, 3], repeats=2)
    found = made(kind, TENSORS)
    names = [f"layers.all-keep{count}-r{draw}" for count in (0, 1, 3) for draw in (0, 1)]
    assert [one.name for one in found] == names
    kept = [8 - len(removed(one)) for one in found]
    assert kept == [0, 0, 2, 2, 6, 6]
    for draw in (0, 1):
        assert removed(found[4 + draw]) < removed(found[2 + draw]) < removed(found[draw])
    with pytest.raises(UserError, match=r"layers\.0 has 4 heads; 4 of them cannot stay"):
        made(HeadsRetained(pattern="layers.*", num_heads=HEADS, keep=[4]), TENSORS)


def test_units_that_stay_are_nested(made: Make) -> None:
    tensors = {"w": torch.zeros(10, 10)}
    few, many = made(UnitsRetained(pattern="w", percent=[5, 30]), tensors)
    assert [one.edits[0].region.count((10, 10)) for one in (few, many)] == [95, 70]
    cut = [set(one.edits[0].region.indices("w", (10, 10)).tolist()) for one in (few, many)]
    assert cut[1] < cut[0]
    for percent in (-1, 100):
        with pytest.raises(UserError, match="expected 0 or more and less than 100"):
            made(UnitsRetained(pattern="w", percent=[percent]), tensors)
