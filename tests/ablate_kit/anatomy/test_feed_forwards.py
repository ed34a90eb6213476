"""Feed-forward branches are found by the names of their layers, or by their places in a list."""

import pytest
import torch
from torch import nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.residual_branches import skips
from ablate_kit.anatomy.feed_forwards import FeedForward, feed_forwards

D, H = 8, 32

BRANCHES = {
    "pre-norm": nn.Sequential(nn.LayerNorm(D), nn.Linear(D, H), nn.GELU(), nn.Linear(H, D)),
    "with dropout": nn.Sequential(
        nn.Linear(D, H), nn.ReLU(), nn.Dropout(), nn.Linear(H, D), nn.Dropout()
    ),
    "of maps": nn.Sequential(nn.Conv2d(D, H, 1), nn.GELU(), nn.Conv2d(H, D, 1)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_two_layers_of_a_list_of_ones_own(name: str) -> None:
    layer = nn.ModuleDict({"ff": BRANCHES[name]}).eval()
    (found,) = feed_forwards(layer.state_dict())
    first, last = (n for n, t in layer.state_dict().items() if t.dim() > 1)
    assert found == FeedForward("ff", (first,), last, H, gated=False)
    x = torch.rand(2, D, 3, 3) if name == "of maps" else torch.rand(2, 5, D)
    (skipped,) = skips(["ff"], layer.state_dict())
    with applied(layer, skipped):
        assert not layer["ff"](x).any()
    assert layer["ff"](x).any()


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(D, H), nn.BatchNorm1d(H), nn.Linear(H, D)],  # more than elementwise between
        [nn.Linear(D, H), nn.ReLU(), nn.Linear(H, D), nn.LayerNorm(D)],  # which comes after
        [nn.Linear(D, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU(), nn.Linear(H, D)],
        [nn.Linear(D, D), nn.Linear(D, D)],  # projections of two levels, side by side
        [nn.Linear(H, D), nn.ReLU(), nn.Linear(D, H), nn.Sigmoid()],  # a gate
        [nn.Conv2d(D, H, 3), nn.ReLU(), nn.Conv2d(H, D, 1)],
        [nn.Linear(D, H)],
    ],
)
def test_other_lists_are_none(layers: list[nn.Module]) -> None:
    assert list(feed_forwards(nn.Sequential(*layers).state_dict())) == []


@pytest.mark.parametrize(
    ("shapes", "gated"),
    [
        ({"w1": (H, D), "w3": (H, D), "w2": (D, H)}, False),
        ({"c_fc": (H, D), "c_proj": (D, H)}, False),
        ({"layers.0": (H, D), "layers.1": (D, H)}, False),
        ({"net.0.proj": (2 * H, D), "net.2": (D, H)}, True),
    ],
)
def test_by_names(shapes: dict[str, tuple[int, int]], gated: bool) -> None:
    tensors = {f"mlp.{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    *first, last = tensors
    assert list(feed_forwards(tensors)) == [FeedForward("mlp", tuple(first), last, H, gated)]
