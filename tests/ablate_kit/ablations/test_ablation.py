"""An ablation is a value: JSON in and out, the same elements everywhere."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random, Removed, Resampled, Whole
from ablate_kit.errors import UserError

ranges = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda x: (x[0], x[0] + x[1]))
regions = st.one_of(
    st.just(Whole()),
    st.builds(Blocks, st.integers(0, 3), st.lists(ranges, min_size=1, max_size=3).map(tuple)),
    st.builds(Random, st.integers(1, 1000), st.integers(0, 2**32), st.integers(0, 9)),
)
finite = st.floats(allow_nan=False, width=32)
values = st.one_of(st.none(), st.lists(st.floats(allow_nan=False), max_size=4).map(tuple))
edits = st.builds(Edit, st.text(min_size=1), regions, finite, finite, st.none(), values)
seeds = st.integers(0, 2**32), st.integers(0, 9)
live = st.one_of(
    st.builds(Removed, st.text(), st.lists(st.integers(0, 300), max_size=3).map(tuple)),
    st.builds(Resampled, st.text(), st.lists(ranges, max_size=3).map(tuple), *seeds),
)
ablations = st.builds(
    Ablation,
    st.text(),
    st.text(),
    st.lists(edits, max_size=4).map(tuple),
    st.lists(live, max_size=2).map(tuple),
    st.dictionaries(
        st.text(), st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    ),
)


@settings(deadline=None, max_examples=100)
@given(ablations)
def test_json_out_and_in_gives_the_same_value(ablation: Ablation) -> None:
    again = Ablation.from_dict(json.loads(json.dumps(ablation.to_dict())))
    assert again == ablation
    assert again.digest == ablation.digest


def test_the_digest_is_of_what_is_done_not_of_its_name() -> None:
    one = Ablation("a", "component", (Edit("w"),))
    assert one.digest == Ablation("b", "layers", (Edit("w"),)).digest
    others = [
        Ablation("a", "component", (Edit("w", value=1.0),)),
        Ablation("a", "component", (Edit("w", values=(0.0,)),)),
        Ablation("a", "component", (Edit("w"),), (Removed("w", (0,)),)),
        Ablation("a", "component", (Edit("w"),), (Removed("w", (1,)),)),
        Ablation("a", "component", (Edit("w"),), (Resampled("w", ((0, 1),), 0, 0),)),
        Ablation("a", "component", (Edit("w"),), (Resampled("w", ((0, 1),), 0, 1),)),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 7
    placed = replace(one, factors={"module": "w", "draw": 1})
    assert placed.digest == one.digest
    assert placed != one


@pytest.mark.parametrize(
    "broken",
    [{}, {"name": "a", "kind": "b", "edits": [{}]}, {"name": "a", "kind": "b", "edits": 3},
     {"name": "a", "kind": "b", "edits": [{"tensor": "w", "value": "x"}]},
     {"name": "a", "kind": "b", "edits": [{"tensor": "w", "value": 0, "values": 1}]},
     {"name": "a", "kind": "b", "edits": [], "live": [{"tensor": "w"}]},
     {"name": "a", "kind": "b", "edits": [], "live": 3},
     {"name": "a", "kind": "b", "edits": [], "factors": 3},
     {"name": "a", "kind": "b", "edits": [], "factors": {"draw": True}},
     {"name": "a", "kind": "b", "edits": [], "factors": {"draw": [1]}},
     {"name": "a", "kind": "b", "edits": [], "factors": {"percent": math.inf}}],
)  # fmt: skip
def test_what_is_no_ablation_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(UserError, match="not an ablation"):
        Ablation.from_dict(broken)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.data())
def test_drawn_units_are_distinct_and_inside(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    indices = Random(count, 42, 0).indices("w", (size,))
    assert len(indices) == count == len(set(indices.tolist()))
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0
    assert indices[-1] < size


def test_fewer_units_are_a_part_of_more() -> None:
    few, many = (set(Random(n, 7, 1).indices("w", (40, 25)).tolist()) for n in (50, 400))
    assert few < many


def test_seed_draw_and_tensor_all_change_what_is_drawn() -> None:
    def drawn(seed: int, draw: int, tensor: str) -> tuple[int, ...]:
        return tuple(Random(10, seed, draw).indices(tensor, (1000,)).tolist())

    assert len({drawn(1, 0, "w"), drawn(2, 0, "w"), drawn(1, 1, "w"), drawn(1, 0, "v")}) == 4


def test_the_same_units_are_drawn_on_every_machine() -> None:
    """Raw Philox numbers, which NumPy keeps: these were drawn with NumPy 2.4."""
    assert Random(6, 42, 0).indices("decoder.w", (8, 16)).tolist() == [3, 13, 20, 32, 79, 91]


def test_every_unit_is_as_likely_as_another() -> None:
    counts = np.zeros(20)
    for draw in range(2000):
        counts[Random(5, 3, draw).indices("w", (20,))] += 1
    # Binomial(2000, 1/4): five standard deviations are 97.
    assert np.abs(counts - 500).max() < 5 * math.sqrt(2000 * 0.25 * 0.75)


def test_counts_of_elements() -> None:
    assert Whole().count((3, 4)) == 12
    assert Whole().count(()) == 1
    assert Blocks(1, ((0, 2), (3, 4))).count((5, 4)) == 15
    assert Random(7, 0, 0).count((5, 4)) == 7
