"""Which parts are put together, by pairs and by permutations."""

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.combination import Pairs
from ablate_kit.ablations.kinds.shapley import ORDER, SUBSET, Shapley, permutations
from ablate_kit.errors import UserError

MADE = {
    name: Ablation(name, "component", (Edit(name),)) for name in ("neck.a", "neck.b", "neck.c")
} | {"head": Ablation("head", "component", (Edit("head"),))}
NECK = ["neck.*"]


def cut(one: Ablation) -> frozenset[str]:
    return frozenset(edit.tensor for edit in one.edits)


def test_pairs_are_every_two_once() -> None:
    found = Pairs(members=NECK).combine(MADE)
    assert [one.name for one in found] == ["neck.a+neck.b", "neck.a+neck.c", "neck.b+neck.c"]
    assert [cut(one) for one in found] == [
        {"neck.a", "neck.b"}, {"neck.a", "neck.c"}, {"neck.b", "neck.c"},
    ]  # fmt: skip
    assert found[0].factors == {"member_1": "neck.a", "member_2": "neck.b"}
    assert len(Pairs().combine(MADE)) == Pairs().count(MADE) == 6


def test_members_may_be_one_pattern() -> None:
    assert Pairs(members="neck.*").combine(MADE) == Pairs(members=NECK).combine(MADE)
    assert Shapley(members="neck.*").count(MADE) == 7


def test_joint_cuts_and_the_same_cut_by_another_name_are_no_further_parts() -> None:
    made = dict(MADE)
    made |= {one.name: one for one in Pairs().combine(MADE)}
    made["again"] = Ablation("again", "component", (Edit("head"),))
    assert Pairs().count(made) == 6


def test_what_no_line_makes_is_refused() -> None:
    with pytest.raises(UserError, match=r'no other line makes "nekc\.\*"'):
        Pairs(members=["nekc.*"]).combine(MADE)
    with pytest.raises(UserError, match="make 1 ablation to be combined; expected at least 2"):
        Pairs(members=["head"]).combine(MADE)
    with pytest.raises(UserError, match="make 0 ablations"):
        Shapley().combine({})


def test_permutations_come_with_their_reverses_and_from_the_seed_alone() -> None:
    found = permutations(5, 6, seed=3)
    assert [sorted(one) for one in found] == [list(range(5))] * 6
    assert found[1::2] == [one[::-1] for one in found[::2]]
    assert found == permutations(5, 6, seed=3)
    assert found != permutations(5, 6, seed=4)


@pytest.mark.parametrize("parts", [2, 5, 7, 8, 24])
def test_in_a_square_of_orders_each_part_stands_equally_often_in_every_place(parts: int) -> None:
    square = parts if parts % 2 == 0 else 2 * parts
    found = np.array(permutations(parts, 2 * square + 2, seed=0))
    for rows in (found[:square], found[square : 2 * square]):
        for place in rows.T:
            assert set(np.bincount(place, minlength=parts)) == {square // parts}


def test_which_of_three_parts_goes_last_is_drawn_anew_in_every_pair() -> None:
    # In rows of one cyclic square the same part is last of three nearby again and again.
    last = [
        [max((0, 1, 2), key=order.index) == 0 for order in permutations(24, 16, seed)[::2]]
        for seed in range(300)
    ]
    share = np.mean(last, axis=1)
    assert share.mean() == pytest.approx(1 / 3, abs=0.03)
    assert share.std() <= 1.1 * (2 / 9 / 8) ** 0.5  # of eight draws by lot


def test_every_permutation_is_a_chain_from_one_part_to_all() -> None:
    made = {name: Ablation(name, "component", (Edit(name),)) for name in "abcdefg"}
    rule = Shapley(seed=1)
    found = rule.combine(made)
    assert len(found) <= rule.count(made) == 112
    assert len({one.digest for one in found}) == len({one.name for one in found}) == len(found)
    for number, order in enumerate(permutations(7, 16, 1)):
        chain = sorted(
            (one for one in found if f"{ORDER}{number}" in one.factors),
            key=lambda one: one.factors[f"{ORDER}{number}"],
        )
        names = [list(made)[i] for i in order]
        assert [cut(one) for one in chain] == [set(names[: i + 1]) for i in range(7)]
    alone = [one for one in found if len(cut(one)) == 1]
    assert {one.name for one in alone} <= made.keys()  # and not cut a second time


def test_of_few_parts_all_subsets_are_cut() -> None:
    rule = Shapley()
    found = rule.combine(MADE)
    assert len(found) == rule.count(MADE) == len({cut(one) for one in found}) == 15
    assert {one.factors[SUBSET] for one in found} == {4}
    assert {one.name for one in found if len(cut(one)) == 1} == MADE.keys()
