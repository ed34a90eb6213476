"""The shares of samples, which a CPU computes another way where they are few."""

import pytest
import torch
from torch import Tensor

from detector.network import attention
from detector.network.attention import DeformableAttention


@pytest.mark.parametrize("points", [1, 2, 4])  # 4, 8 and 16 samples of a query
def test_shares_are_the_softmax(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = DeformableAttention(8, 2, points, 0.0).double()
    shapes = [(1, 2), (2, 2), (2, 3), (3, 3)]
    query = torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)
    memory = torch.randn(2, 21, 8, generator=generator, dtype=torch.float64)
    reference = torch.rand(2, 5, 2, generator=generator, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)

    def run() -> tuple[Tensor, ...]:
        out = layer(query, query, memory, shapes, reference)
        return out, *torch.autograd.grad(out.square().sum(), list(layer.parameters()))

    found = run()
    monkeypatch.setattr(attention, "_softmax", lambda logits: logits.softmax(-1))
    torch.testing.assert_close(found, run())
