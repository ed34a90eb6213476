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
    def __init__(self, config: HybridConfig, points: int, refine_scale: float) -> None:
        super().__init__()
        d = config.d_model
        self.refine_scale = refine_scale
        self.norm1 = nn.LayerNorm(d)
        self.self_attn = SelfAttention(d, config.heads)
        self.scale1 = LayerScale(d, LAYER_SCALE)
        self.norm2 = nn.LayerNorm(d)
        self.cross_attn = DeformableAttention(d, config.heads, points, config.deformable_dropout)
        self.scale2 = LayerScale(d, LAYER_SCALE)
        self.norm3 = nn.LayerNorm(d)
        self.ffn = GatedFeedForward(d)
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
        x = x + self.drop_path(self.scale1(self.self_attn(self.norm1(x), attention_mask)))
        attended = self.cross_attn(self.norm2(x), position, memory, shapes, reference)
        x = x + self.drop_path(self.scale2(attended))
        x = x + self.drop_path(self.scale3(self.ffn(self.norm3(x))))
        return self._refined(x, reference)

    @without_autocast
    def _refined(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        move = self.refine_scale * torch.tanh(self.refine2(F.gelu(self.refine1(x))))
        reference = torch.sigmoid(torch.logit(reference, eps=1e-6) + move)
        return x + NUDGE * move.mean(dim=-1, keepdim=True), reference


class Decoder(nn.Module):
    """``decoder_layers`` layers; returns content and reference after each of them."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        scales = torch.linspace(*REFINE_SCALES, config.decoder_layers).tolist()
        self.layers = nn.ModuleList(
            DecoderLayer(config, points, scale)
            for points, scale in zip(config.points, scales, strict=True)
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
