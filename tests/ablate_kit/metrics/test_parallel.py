"""The same function of many things, in threads."""

from collections.abc import Iterator

import pytest

from ablate_kit.metrics.parallel import in_threads


def test_things_are_taken_as_threads_come_free() -> None:
    taken: list[int] = []

    def things() -> Iterator[int]:
        for thing in range(9):
            taken.append(thing)
            yield thing

    found = in_threads(lambda thing: thing * thing, things(), threads=2)
    assert next(found) == 0
    assert taken == [0, 1, 2]
    assert list(found) == [thing * thing for thing in range(1, 9)]


def test_a_mistake_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda thing: 1 // thing, (3, 2, 0, 1, 4, 5), threads=2))
    assert list(in_threads(abs, ())) == []
