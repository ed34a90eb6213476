"""More and more of the parts that are missed least, cut at once."""

import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.combination import Pairs
from ablate_kit.ablations.kinds.ranked import Ranked
from ablate_kit.errors import UserError

NAMES = ("a", "b", "c", "d", "e")
MADE = {name: Ablation(name, "component", (Edit(name),)) for name in NAMES}
APS = {"a": 0.3, "b": 0.5, "c": 0.1, "d": None, "e": 0.4}
VALUES = {MADE[name].digest: value for name, value in APS.items()}


def cut(one: Ablation) -> list[str]:
    return [edit.tensor for edit in one.edits]


def test_what_is_missed_least_goes_first_and_what_has_no_number_last() -> None:
    found = Ranked().combine(MADE, VALUES)
    assert [cut(one) for one in found] == [list("beacd"[:n]) for n in range(1, 6)]
    assert [one.name for one in found] == [f"all-ranked-{n}of5" for n in range(1, 6)]
    assert [one.factors["added"] for one in found] == list("beacd")
    assert found[1].factors == {
        "target": "all", "order": "ranking", "dropped": 2, "of": 5, "added": "e",
    }  # fmt: skip
    assert found[0].digest == MADE["b"].digest  # which is not run again


def test_fewer_points_are_spaced_evenly_and_end_with_all() -> None:
    found = Ranked(points=3).combine(MADE, VALUES)
    assert [one.factors["dropped"] for one in found] == [1, 3, 5]
    assert [one.factors["added"] for one in found] == ["b", "e a", "c d"]
    assert Ranked(points=3).count(MADE) == 3
    assert Ranked().count(MADE) == 5


def test_members_are_those_that_match_and_joint_cuts_are_none() -> None:
    made = MADE | {one.name: one for one in Pairs().combine(MADE)}
    found = Ranked(members=["[ab]"]).combine(made, VALUES)
    assert [cut(one) for one in found] == [["b"], ["b", "a"]]
    assert found[1].name == "ab-ranked-2of2"
    assert Ranked(members="[ab]").combine(made, VALUES) == found
    with pytest.raises(UserError, match='no other line makes "x"'):
        Ranked(members=["x"]).count(made)


def test_a_part_that_contradicts_is_left_out() -> None:
    other = Ablation("b-to-1", "component", (Edit("b", value=1.0),))
    made, values = MADE | {"b-to-1": other}, VALUES | {other.digest: 0.45}
    found = Ranked(points=9).combine(made, values)
    assert [one.factors["of"] for one in found] == [5] * 5
    assert "b-to-1" not in " ".join(str(one.factors["added"]) for one in found)


def test_another_metric_ranks_by_itself() -> None:
    assert Ranked(metric="f1_calibrated").metric == "f1_calibrated"
    reverse = {digest: -(value or 0.0) for digest, value in VALUES.items()}
    first = Ranked(metric="f1_calibrated").combine(MADE, reverse)[0]
    assert cut(first) == ["d"]
