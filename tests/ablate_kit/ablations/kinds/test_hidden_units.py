"""The hidden units with the smallest weights, of feed-forward branches plain and gated."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ablate_kit.ablations.edits import Blocks
from ablate_kit.ablations.kinds.hidden_units import HiddenUnits
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError


@pytest.fixture
def branches(tmp_path: Path) -> Path:
    """A plain branch whose unit k is of size 4 - k, and a gated one whose unit k is of size k."""
    plain = torch.arange(4, 0, -1).float()
    halves = torch.tensor([0.0, 1, 2, 3, 5, 5, 5, 5])
    path = tmp_path / "branches.safetensors"
    save_file(
        {
            "0.fc1.weight": plain[:, None].repeat(1, 3),
            "0.fc2.weight": torch.ones(3, 4),
            "1.fc1.weight": halves[:, None].repeat(1, 3),
            "1.fc2.weight": torch.ones(3, 4),
            "norm.weight": torch.ones(3),
        },
        path,
    )
    return path


def test_the_smallest_units_go_first(branches: Path) -> None:
    with open_checkpoint(branches) as opened:
        half, most = HiddenUnits(pattern="**", percent=[50, 75]).make(KindContext(opened))
    assert [one.region for one in half.edits] == [
        Blocks(1, ((2, 3), (3, 4))),
        Blocks(1, ((0, 1), (1, 2))),
    ]
    assert [one.tensor for one in most.edits] == ["0.fc2.weight", "1.fc2.weight"]
    assert [len(one.region.ranges) for one in most.edits] == [3, 3]


@pytest.mark.parametrize(
    ("pattern", "percent", "message"),
    [
        ("norm", 50, "names no feed-forward branch"),
        ("0.fc2", 10, "10 % of the 4 units of 0 is less than one"),
        ("0.fc2", 101, "expected more than 0 and at most 100"),
    ],
)
def test_what_names_no_unit_is_refused(
    pattern: str, percent: float, message: str, branches: Path
) -> None:
    kind = HiddenUnits(pattern=pattern, percent=[percent])
    with open_checkpoint(branches) as opened, pytest.raises(UserError, match=message):
        kind.make(KindContext(opened))
