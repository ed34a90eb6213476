"""Attention modules under names of their own are found, and their heads are removed exactly."""

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_chosen
from ablate_kit.ablations.kinds.residual_branches import skips
from ablate_kit.anatomy.projections import by_projections

C, H, WIDTH = 32, 4, 8  # channels, heads, of a head


class Own(nn.Module):
    """Attention of H heads, as modules of one's own write it.

    Args:
        names: of its projections: to queries, keys and values, to queries and both others, or to
            all three; and of its output projection at last.
        shared: heads that have keys and values of their own; the others share these.
        maps: whether projections are convolutions.
    """

    def __init__(self, *names: str, shared: int = H, maps: bool = False, last: bool = False):
        super().__init__()
        self.names, self.shared, self.maps = names, shared, maps
        rows = [H * WIDTH, shared * WIDTH, shared * WIDTH]
        parts = {2: [rows], 3: [rows[:1], rows[1:]], 4: [[one] for one in rows]}[len(names)]
        for name, part in zip(names, parts, strict=False):
            self.add_module(name, self._layer(C, sum(part)))
        output = self._layer(H * WIDTH, C)
        norm = [nn.LayerNorm(C)] if last else []
        *_, out = names
        self.add_module(
            out.removesuffix(".0"), nn.Sequential(output, *norm) if out.endswith(".0") else output
        )
        self.norm = nn.LayerNorm(C)
        self.gate = self._layer(C, C)  # as wide as the output projection, and none

    def _layer(self, a: int, b: int) -> nn.Module:
        return nn.Conv2d(a, b, 1) if self.maps else nn.Linear(a, b)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """``keep`` (heads,) is what heads' outputs are multiplied by: the reference."""
        *projections, out = self.names
        given = torch.cat([getattr(self, name)(x) for name in projections], 1 if self.maps else -1)
        if self.maps:
            given = given.flatten(2).transpose(1, 2)
        query, key, value = given.split([H * WIDTH, *[self.shared * WIDTH] * 2], dim=-1)
        query, key, value = (
            one.unflatten(-1, (-1, WIDTH)).transpose(1, 2) for one in (query, key, value)
        )
        key, value = (one.repeat_interleave(H // self.shared, 1) for one in (key, value))
        heads = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        if keep is not None:
            heads = heads * keep[:, None, None]
        joined = heads.transpose(1, 2).flatten(2)
        if self.maps:
            joined = joined.transpose(1, 2).unflatten(2, tuple(x.shape[2:]))
        return getattr(self, out.removesuffix(".0"))(joined)


MODULES = {
    "wq": lambda: Own("wq", "wk", "wv", "wo"),
    "grouped heads": lambda: Own("wq", "wk", "wv", "wo", shared=2),
    "to_q": lambda: Own("to_q", "to_k", "to_v", "to_out.0"),
    "norm after the output": lambda: Own("to_q", "to_k", "to_v", "to_out.0", last=True),
    "fc_q": lambda: Own("fc_q", "fc_k", "fc_v", "fc_o"),
    "w_qs": lambda: Own("w_qs", "w_ks", "w_vs", "fc_out"),
    "W_Q": lambda: Own("W_Q", "W_K", "W_V", "W_O"),
    "q_linear": lambda: Own("q_linear", "k_linear", "v_linear", "out"),
    "queries": lambda: Own("queries", "keys", "values", "output"),
    "query_proj": lambda: Own("query_proj", "key_proj", "value_proj", "c_proj"),
    "to_qkv": lambda: Own("to_qkv", "to_out.0"),
    "Wqkv": lambda: Own("Wqkv", "out_proj"),
    "fused, grouped": lambda: Own("qkv", "proj", shared=1),
    "query_key_value": lambda: Own("query_key_value", "proj"),
    "in_proj": lambda: Own("in_proj", "out_proj"),
    "c_attn": lambda: Own("c_attn", "c_proj"),
    "q, kv": lambda: Own("q", "kv", "proj"),
    "to_kv, grouped": lambda: Own("to_q", "to_kv", "to_out.0", shared=2),
    "dense": lambda: Own("query", "key", "value", "dense"),
    "final_linear": lambda: Own("wq", "wk", "wv", "final_linear"),
    "convolutions": lambda: Own("to_qkv", "to_out", maps=True),
}


def made(name: str) -> nn.Module:
    module = MODULES[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.double().eval()


def shown(module: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (2, C, 3, 5) if module.maps else (2, 5, C)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
def test_heads_are_removed_as_if_their_outputs_were_zero(name: str) -> None:
    module = made(name)
    x = shown(module)
    (attention,) = attentions(module.state_dict(), heads=H)
    full = module(x)
    for heads in ([0], [1, 2], [3]):
        keep = torch.ones(H, dtype=torch.float64)
        keep[heads] = 0
        expected = module(x, keep)
        with applied(module, heads_chosen([attention], heads, "x")):
            assert (module(x) - expected).abs().max() < 1e-12
        assert (full - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODULES)
def test_a_skipped_one_adds_nothing(name: str) -> None:
    layer = nn.ModuleDict({"attn": made(name)})
    (skipped,) = skips(["attn"], layer.state_dict())
    with applied(layer, skipped):
        assert not layer["attn"](shown(layer["attn"])).any()


@pytest.mark.parametrize(
    "shapes",
    [
        {"q_proj": (32, 32), "k_proj": (32, 32), "v_proj": (32, 32)},  # no output projection
        {"wq": (32, 32), "wk": (32, 32), "wo": (32, 32)},  # no values
        {"qkv": (96, 32), "first": (32, 32), "second": (32, 32)},  # which one is the output?
        {"qkv": (96, 32), "proj": (32, 24)},  # of another width
        {"qkv": (96, 32), "fc1": (128, 32), "fc2": (32, 128)},  # a branch of another kind
        {"wq": (32, 32), "wk": (32, 32), "wv": (32, 32), "pos_proj": (32, 32)},
        {"wq": (32, 32), "wk": (32, 32), "wv": (32, 32), "gate": (32, 32)},
        {"query_pos": (32, 2), "key_pos": (32, 2), "proj": (32, 32)},
        {"in_proj": (128, 32), "out_proj": (32, 32)},  # Mamba's
        {"sa_q": (8, 8), "sa_k": (8, 8), "sa_v": (8, 8), "ca_q": (8, 8), "ca_k": (8, 8),
         "ca_v": (8, 8), "sa_out": (8, 8), "ca_out": (8, 8)},  # two in one module
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_none(shapes: dict[str, tuple[int, int]]) -> None:
    tensors = {f"a.{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    assert list(by_projections(tensors)) == []


def test_a_block_without_modules_of_its_own() -> None:
    shapes = {"qkv": (96, 32), "proj": (32, 32), "fc1": (128, 32), "fc2": (32, 128)}
    tensors = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    ((prefix, layout),) = by_projections(tensors)
    assert (prefix, layout.name, layout.output) == ("", "fused", ("proj.weight",))
