from pathlib import Path

import pytest

from ablate_kit.errors import UserError
from ablate_kit.sweeps.run_folder.run_inputs import as_noted, refuse_changed

LOOKS = "looks at 30 images, for 8 variants; margin 0.01"


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"data": "a" * 64}, {"data": "b" * 64}, r"\(a{12}\.\.\., now b{12}\.\.\.\)"),
        ({"threads": 1}, {"threads": 2}, r"\(1, now 2\)"),
        ({"race": LOOKS}, {}, rf"\({LOOKS}, now null\)"),
        (
            {"race": LOOKS},
            {"race": f"{LOOKS}; 2000 resamples"},
            r"\(\.\.\.0\.01, now \.\.\.0\.01; 2000 resamples\)",
        ),
    ],
)
def test_what_differs_is_shown(
    before: dict[str, object], now: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        refuse_changed(Path("run"), before, now)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ("python:nets.py:build", "python:../code/nets.py:build", True),
        ("python:/home/me/nets.py:build", "python:nets.py:build", True),
        ("transformers:base", "transformers:runs/base", True),
        ("python:nets.py:build", "python:nets.py:other", False),
        ("python:nets.py:build", "python:code/own.py:build", False),
        ("python:nets.build:make", "python:own.build:make", False),
    ],
)
def test_code_goes_on_from_another_place(then: str, now: str, same: bool) -> None:
    """A run is given from another folder; what is in the file, its digest says."""
    before = {"framework": then, "configuration": "a"}
    found = as_noted(before, {"framework": now, "configuration": "a"})
    assert found["framework"] == (then if same else now)
    assert as_noted({"threads": 1}, {"threads": 1}) == {"threads": 1}
