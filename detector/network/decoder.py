"""The deformable decoder: queries attend to each other, then to the memory around a reference."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.attention import DeformableAttention, GatedFeedForward, SelfAttention
from detector.network.float32 import without_autocast
from detector.network.layers import DropPath, LayerScale, xavier_linear

LAYER_SCALE = 0.4
REFINE_SCALES = (0.15, 0.45)  # of the first and the last layer, linear between
NUDGE = 1e-4  # share of the mean refinement added to the stream


class DecoderLayer(nn.Module):
    """Layer ``index``; a branch of which the config says that its size is 0 is not there."""

    def __init__(
        self, config: HybridConfig, points: int, refine_scale: float, index: int = 0
    ) -> None:
        super().__init__()
        d, of_head = config.d_model, config.d_model // config.heads
        self_heads, cross_heads, hidden = (
            config.layer_sizes(f"decoder_{name}")[index]
            for name in ("self_heads", "cross_heads", "hidden")
        )
        self.refine_scale = refine_scale
        self.self_attn = self.cross_attn = self.ffn = None
        if self_heads:
            self.norm1 = nn.LayerNorm(d)
            self.self_attn = SelfAttention(d, self_heads, of_head)
            self.scale1 = LayerScale(d, LAYER_SCALE)
        if cross_heads:
            self.norm2 = nn.LayerNorm(d)
            self.cross_attn = DeformableAttention(
                d, cross_heads, points, config.deformable_dropout, of_head
            )
            self.scale2 = LayerScale(d, LAYER_SCALE)
        if hidden:
            self.norm3 = nn.LayerNorm(d)
            self.ffn = GatedFeedForward(d, hidden)
            self.scale3 = LayerScale(d, LAYER_SCALE)
        self.refine1 = xavier_linear(d, d)
        self.refine2 = xavier_linear(d, 2)
        self.drop_path = DropPath(config.transformer_drop_path)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        memory: Tensor,
        shapes: Sequence[tuple[int, int]],
        reference: Tensor,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The queries' new content and their moved reference points."""
        if self.self_attn is not None:
            x = x + self.drop_path(self.scale1(self.self_attn(self.norm1(x), attention_mask)))
        if self.cross_attn is not None:
            attended = self.cross_attn(self.norm2(x), position, memory, shapes, reference)
            x = x + self.drop_path(self.scale2(attended))
        if self.ffn is not None:
            x = x + self.drop_path(self.scale3(self.ffn(self.norm3(x))))
        return self._refined(x, reference)

    @without_autocast
    def _refined(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        move = self.refine_scale * torch.tanh(self.refine2(F.gelu(self.refine1(x))))
        reference = torch.sigmoid(torch.logit(reference, eps=1e-6) + move)
        return x + NUDGE * move.mean(dim=-1, keepdim=True), reference


def refine_scales(config: HybridConfig) -> tuple[float, ...]:
    """How far each layer moves the references."""
    if config.decoder_refine is not None:
        return config.decoder_refine
    return tuple(torch.linspace(*REFINE_SCALES, config.decoder_layers, device="cpu").tolist())


class Decoder(nn.Module):
    """``decoder_layers`` layers; returns content and reference after each of them."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        sizes = zip(config.points, refine_scales(config), strict=True)
        self.layers = nn.ModuleList(
            DecoderLayer(config, points, scale, i) for i, (points, scale) in enumerate(sizes)
        )

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        memory: Tensor,
        shapes: Sequence[tuple[int, int]],
        reference: Tensor,
        attention_mask: Tensor | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """``attention_mask`` says which query must not see which in self-attention, see there."""
        states = []
        for layer in self.layers:
            x, reference = layer(x, position, memory, shapes, reference, attention_mask)
            states.append((x, reference))
        return states
