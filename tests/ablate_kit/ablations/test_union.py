"""Joined ablations do what one after the other does, or are refused in one line."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import (
    Added,
    Blocks,
    Edit,
    Intervention,
    Noise,
    Random,
    Removed,
    Resampled,
    Whole,
)
from ablate_kit.ablations.factors import Factors
from ablate_kit.errors import UserError

SHAPES = {"weight": (4, 3), "bias": (4,)}


def _ranges(size: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda x: x[0] < x[1])
    return st.lists(pairs, min_size=1, max_size=2).map(tuple)


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    tensor = draw(st.sampled_from(sorted(SHAPES)))
    shape = SHAPES[tensor]
    axis = draw(st.integers(0, len(shape) - 1))
    region = draw(
        st.one_of(st.just(Whole()), st.builds(Blocks, st.just(axis), _ranges(shape[axis])))
    )
    value = draw(st.sampled_from([0.0, -0.0, 1.0]))
    factor = draw(st.sampled_from([0.0, 0.0, 0.0, 0.5]))
    return Edit(tensor, region, value, factor)


def ablations(name: str) -> st.SearchStrategy[Ablation]:
    return st.builds(
        Ablation,
        st.just(name),
        st.just("any"),
        st.lists(edits(), min_size=1, max_size=3).map(tuple),
    )


def result(*chosen: Ablation) -> dict[str, list[float]]:
    """What a small layer is after these, one after the other; 0.0 and -0.0 told apart."""
    module = nn.Linear(3, 4)
    with torch.no_grad():
        module.weight.copy_(torch.arange(12.0).view(4, 3) + 2)
        module.bias.copy_(torch.arange(4.0) + 20)
    return _after(module, chosen)


def _after(module: nn.Module, chosen: tuple[Ablation, ...]) -> dict[str, list[float]]:
    if not chosen:
        return {
            name: [float.hex(x) for x in tensor.double().flatten().tolist()]
            for name, tensor in module.state_dict().items()
        }
    with applied(module, chosen[0]):
        return _after(module, chosen[1:])


def said(one: Ablation) -> Iterator[tuple[str, int, str]]:
    """Tensor, element and what it becomes, by each edit: with indices, not with regions."""
    for edit in one.edits:
        taken = np.zeros(SHAPES[edit.tensor], dtype=bool)
        if isinstance(edit.region, Blocks):
            for start, stop in edit.region.ranges:
                taken[(slice(None),) * edit.region.axis + (slice(start, stop),)] = True
        else:
            taken[...] = True
        for i in np.flatnonzero(taken).tolist():
            where = "" if edit.factor == 0 else f" where {edit.region}"
            yield edit.tensor, i, f"{edit.factor} x + {edit.value}{where}"


def disagree(one: Ablation, other: Ablation) -> bool:
    there: dict[tuple[str, int], set[str]] = {}
    for tensor, i, what in said(other):
        there.setdefault((tensor, i), set()).add(what)
    return any(there.get((tensor, i), {what}) != {what} for tensor, i, what in said(one))


def agrees_with_itself(one: Ablation) -> bool:
    return not disagree(one, one) and len(set(map(repr, one.edits))) == len(one.edits)


@settings(deadline=None, max_examples=60)
@given(ablations("a"), ablations("b"))
def test_a_join_is_one_after_the_other_where_they_agree(a: Ablation, b: Ablation) -> None:
    same = a.digest == b.digest
    if not same and disagree(a, b):
        with pytest.raises(UserError, match=r'^"a" and "b" cannot be joined: '):
            joined(a, b)
        return
    both = joined(a, b)
    shared = {repr(edit) for edit in a.edits} & {repr(edit) for edit in b.edits if edit.factor}
    if not shared and not (same and any(edit.factor for edit in a.edits)):
        assert result(both) == result(a, b) == result(b, a) == result(joined(b, a))
    if agrees_with_itself(a) and agrees_with_itself(b):
        assert result(joined(both, a)) == result(joined(b, both)) == result(both)


@settings(deadline=None, max_examples=20)
@given(ablations("a"), ablations("b"), ablations("c"))
def test_the_order_of_joins_does_not_matter(a: Ablation, b: Ablation, c: Ablation) -> None:
    try:
        one = joined(a, b, c)
        other = a | (b | c)
    except UserError:
        return
    assert result(one) == result(other)
    assert one.factors == other.factors


def _heads(number: int, *more: int) -> Ablation:
    ranges = tuple((2 * i, 2 * i + 2) for i in (number, *more))
    factors: Factors = {"module": "attn", "layer": 0, "head": number, "draw": 0}
    return Ablation(f"head{number}", "heads", (Edit("w", Blocks(1, ranges)),), factors=factors)


def test_two_heads_joined_are_the_two_cut_together() -> None:
    both = _heads(3) | _heads(1)
    assert both.edits == _heads(1, 3).edits
    assert both.digest == _heads(1, 3).digest
    assert both.kind == "joined"
    assert both.name == "head3+head1"
    assert both.factors == {
        "module": "attn", "layer": 0, "member_1": "head3", "member_2": "head1",
    }  # fmt: skip
    three = both | _heads(0)
    assert three.edits == _heads(0, 1, 3).edits
    assert three.factors["member_3"] == "head0"
    assert _heads(1) | _heads(1) == _heads(1)
    assert Ablation.from_dict(three.to_dict()) == three


def test_what_is_scaled_or_noisy_twice_counts_once() -> None:
    soft = Ablation("soft", "scale", (Edit("w", factor=0.5),))
    noisy = Ablation("noisy", "noise", (Edit("v", factor=1.0, noise=Noise(0.1, 1, 0)),))
    both = soft | noisy
    assert (both | soft).edits == both.edits == (*soft.edits, *noisy.edits)
    other = Ablation("more", "noise", (Edit("v", factor=1.0, noise=Noise(0.1, 1, 1)),))
    with pytest.raises(UserError, match="same elements of v become"):
        both | other


def test_drawn_elements_may_be_any() -> None:
    drawn = Ablation("drawn", "units", (Edit("w", Random(3, 1, 0)),))
    zero = Ablation("zero", "heads", (Edit("w", Blocks(0, ((0, 1),))),))
    one = Ablation("one", "heads", (Edit("w", Blocks(0, ((0, 1),)), 1.0),))
    assert (drawn | zero).edits == (*drawn.edits, *zero.edits)
    with pytest.raises(UserError, match='"drawn" and "one" cannot be joined'):
        drawn | one


def test_values_of_one_tensor_that_do_not_say_what_they_add_are_refused() -> None:
    """Each was made with the other head in place."""
    means = [
        Ablation(f"{i}", "heads-mean", (*_heads(i).edits, Edit("b", values=(1.0, float(i)))))
        for i in range(2)
    ]
    with pytest.raises(UserError, match="same elements of b become"):
        joined(*means)
    assert joined(means[0], means[0]) == means[0]


def _adds(**parts: tuple[float, ...]) -> Ablation:
    added = Added((0.5, 0.0), parts, "bfloat16")
    name = "+".join(parts)
    return Ablation(name, "heads-mean", (Edit("b", values=added.values(), added=added),))


def test_what_several_parts_add_to_a_tensor_is_added_up_once_and_rounded_as_it_is_stored() -> None:
    a, b, c = _adds(a=(1.0, 2.0**-9)), _adds(b=(2.0, 1.0)), _adds(c=(-3.0, 2.0**-8))
    assert _adds(a=(1.0, 2.0**-9)).edits[0].values == (1.5, 2.0**-9)
    assert (a | b).edits[0].values == (3.5, 1.0)  # bfloat16 has 8 bits
    assert (a | b | c).edits[0].values == (0.5, 1.0078125)
    assert (a | b | c).digest == (c | b | a).digest == (a | (b | c)).digest
    assert ((a | b) | (b | c)).digest == (a | b | c | a).digest == (a | b | c).digest
    other = Ablation("other", "zero", (Edit("b"),))
    with pytest.raises(UserError, match="same elements of b become"):
        a | other


def _live(name: str, *what: Intervention) -> Ablation:
    return Ablation(name, "live", (), what)


def test_rows_unite_and_columns_come_from_one_image() -> None:
    a, b = _live("a", Removed("q", (1, 4))), _live("b", Removed("q", (0, 4)), Removed("p", (0,)))
    assert (a | b).live == (Removed("q", (0, 1, 4)), Removed("p", (0,)))
    left, right, again = (
        _live(str(ranges), Resampled("w", (ranges,), 1, draw))
        for ranges, draw in (((0, 2), 0), ((2, 4), 1), ((1, 3), 0))
    )
    assert (left | right | left).live == (*left.live, *right.live)
    with pytest.raises(UserError, match="same columns of w"):
        left | again


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(UserError, match="no ablations to join"):
        joined()
