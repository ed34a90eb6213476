"""What a kind of ablation cuts has one name in every kind."""

import pytest

from ablate_kit.ablations.kinds.components import Modules
from ablate_kit.ablations.kinds.kind import listed
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import parse_kind


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"pattern": "neck"}, ["neck"]),
        ({"pattern": ["neck", "heads"]}, ["neck", "heads"]),
        ({"patterns": ["neck", "heads"]}, ["neck", "heads"]),  # of runs made by 0.2 and before
    ],
)
def test_pattern_is_one_or_several(line: dict[str, object], expected: list[str]) -> None:
    found = parse_kind({"kind": "modules", **line})
    assert isinstance(found, Modules)
    assert listed(found.pattern) == expected


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(UserError, match=r"ablation\.pattern: input should be a valid list"):
        parse_kind({"kind": "modules", "pattern": 3})
    with pytest.raises(
        UserError, match=r'unknown key "ablation\.patterns"; did you mean "pattern"'
    ):
        parse_kind({"kind": "modules", "pattern": "neck", "patterns": ["heads"]})
