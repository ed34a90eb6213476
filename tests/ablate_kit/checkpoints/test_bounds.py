"""However a file is nested, wide or cyclic, showing it is little work."""

from typing import Any

import pytest

from ablate_kit.checkpoints import Opaque, show
from ablate_kit.reports.meta import outline

STEPS = 400_000  # calls that showing one value may take


def calls(function: Any) -> int:
    """How many calls of Python functions it takes: the work, whatever else the machine does."""
    import sys

    count = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def sets_in_sets(width: int, depth: int) -> Any:
    value: Any = {1}
    for _ in range(depth):
        value = {Opaque("", "key", (value,)) for _ in range(width)}
    return value


def set_of_itself() -> set[Any]:
    value: set[Any] = set()
    for name in "abc":
        value.add(Opaque("", name, (value, [value], {"k": value})))
    return value


VALUES = {
    "sets in sets": lambda: sets_in_sets(60, 3),
    "a set of itself": set_of_itself,
    "sets in sets, deep": lambda: sets_in_sets(2, 14),
    "many sets": lambda: [[{f"{i}{j}" for i in range(60)}] for j in range(1000)],
    "wide sets": lambda: [{Opaque("", "k", ([i] * 300,)) for _ in range(64)} for i in range(300)],
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_is_shown_in_bounded_work(value: Any) -> None:
    made = value()
    assert calls(lambda: show(made)) < STEPS
    assert len(show(made)) <= 200
    assert show(made) == show(value())


def test_small_sets_are_shown_as_they_are() -> None:
    assert show({3, 1, 2}) == "{1, 2, 3}"
    assert show([{"b", "a"}, {Opaque("", "key", ({1},))}]) == (
        "[{'a', 'b'}, {key(<set of 1 items>)}]"
    )


def test_an_outline_ends_however_often_a_table_is_in_itself() -> None:
    inner: dict[str, Any] = {str(i): None for i in range(6)}
    for key in inner:
        inner[key] = inner
    lines = list(outline(inner, 10**6))
    assert len(lines) == 10_001
    assert max(len(path) for path, _ in lines) <= 64
