from pathlib import Path

import pytest

from ablate_kit.errors import UserError
from ablate_kit.sweeps.run_inputs import refuse_changed

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
