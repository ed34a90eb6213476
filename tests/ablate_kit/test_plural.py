"""How many there are of something, in words."""

import pytest

from ablate_kit.plural import counted


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (2000, ("image",), "2,000 images"),
        (1, ("copy", "copies"), "1 copy"),
        (3, ("copy", "copies"), "3 copies"),
    ],
)
def test_one_is_singular_and_all_else_is_plural(
    count: int, words: tuple[str, ...], said: str
) -> None:
    assert counted(count, *words) == said
