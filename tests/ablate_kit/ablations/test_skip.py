"""Skipping a branch by weights is setting its output to zero."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.apply import applied
from ablate_kit.ablations.skip import skips
from ablate_kit.errors import UserError
from detector.config import HybridConfig
from detector.network.decoder import DecoderLayer
from detector.network.encoder import EncoderLayer
from detector.network.neighborhood import AttentionLayer

CONFIG = HybridConfig()
C = CONFIG.d_model
SHAPES = [(6, 6), (3, 3), (2, 2), (1, 1)]
COUNT = sum(a * b for a, b in SHAPES)


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Plain(nn.Module):
    """Post-norm layer with torch's attention and an MLP, as in DETR."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(C, 4, batch_first=True)
        self.norm = nn.LayerNorm(C)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(C, 2 * C))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(2 * C, C))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.self_attn(x, x, x, need_weights=False)[0])
        return x + self.mlp(x)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor], list[str]]] = {
    "decoder": (
        lambda: DecoderLayer(CONFIG, 2, 0.3),
        lambda m: m(rand(1, 5, C), 0.1, rand(1, COUNT, C) + 1, SHAPES, rand(1, 5, 2))[0],
        ["self_attn", "cross_attn", "ffn"],
    ),
    "encoder": (
        lambda: EncoderLayer(CONFIG, 0.0),
        lambda m: m(rand(1, COUNT, C), 0.1, SHAPES, rand(1, COUNT, 2)),
        ["self_attn", "ffn"],
    ),
    "backbone": (
        lambda: AttentionLayer(C, 4, 0.0, CONFIG),
        lambda m: m(rand(1, 8, 9, C)),
        ["attn", "mlp"],
    ),
    "plain": (Plain, lambda m: m(rand(2, 5, C)), ["self_attn", "mlp"]),
}


@pytest.mark.parametrize(
    ("case", "part"), [(case, part) for case, (_, _, parts) in CASES.items() for part in parts]
)
def test_a_skipped_branch_adds_nothing(case: str, part: str) -> None:
    make, run, _ = CASES[case]
    model = nn.ModuleDict({"0": make()}).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn * 0.3)
        full = run(model["0"])
        handle = getattr(model["0"], part).register_forward_hook(
            lambda _, __, out: (
                (torch.zeros_like(out[0]), None) if isinstance(out, tuple) else out * 0
            )
        )
        expected = run(model["0"])
        handle.remove()
        (ablation,) = skips([f"0.{part}"], model.state_dict())
        with applied(model, ablation):
            assert (run(model["0"]) - expected).abs().max() < 1e-12
        assert (full - expected).abs().max() > 1e-3
        assert torch.equal(run(model["0"]), full)


def test_what_is_no_branch_is_refused() -> None:
    tensors = nn.ModuleDict({"0": DecoderLayer(CONFIG, 2, 0.3), "1": Plain()}).state_dict()
    with pytest.raises(UserError, match=r"0\.refine1 is not a residual branch"):
        skips(["0.refine1"], tensors)
    with pytest.raises(UserError, match=r"1\.norm cannot be skipped: it has no output projection"):
        skips(["1.norm"], tensors)
    gated = {"0.gateway.gate.weight": torch.ones(2), "0.encoder_attn.x.weight": torch.ones(2)}
    with pytest.raises(UserError, match="a gate joins its output"):
        skips(["0.encoder_attn"], gated)
