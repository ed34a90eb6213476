"""Programmable gradient information: an auxiliary branch that usually exists in training only."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.layers import conv, make_norm, resize

LAMBDA_BOUNDS = (0.2, 0.7)
LAMBDA_INIT = 0.5
GATE_INIT = 0.5


class PGI(nn.Module):
    """x + main(x), and in training + lambda * gate * aux(resized earlier map) as well.

    ``main`` is a grouped convolution (four channels per group) and a norm; ``lambda`` is learned
    within [0.2, 0.7]. Because the auxiliary term is left out in evaluation, the two modes compute
    different functions; ``pgi_in_evaluation`` keeps it, so that the difference can be measured.
    """

    def __init__(self, channels: int, aux_channels: int, config: HybridConfig) -> None:
        super().__init__()
        hidden = max(channels // 4, 32)
        self.in_evaluation = config.pgi_in_evaluation
        low, high = LAMBDA_BOUNDS
        self.lambda_logit = nn.Parameter(
            torch.tensor(math.log((LAMBDA_INIT - low) / (high - LAMBDA_INIT)))
        )
        self.gate = nn.Parameter(torch.full((1, channels, 1, 1), GATE_INIT))
        self.main = conv(channels, channels, 3, groups=max(1, channels // 4))
        self.main_norm = make_norm(config.norm, channels)
        self.aux_reduce = conv(channels, hidden, 1)
        self.aux_norm1 = make_norm(config.norm, hidden)
        self.aux_expand = conv(hidden, channels, 1)
        self.aux_norm2 = make_norm(config.norm, channels)
        self.aux_adapter = (
            nn.Identity() if aux_channels == channels else conv(aux_channels, channels, 1)
        )

    def forward(self, x: Tensor, aux: Tensor) -> Tensor:
        out = x + self.main_norm(self.main(x))
        if not (self.training or self.in_evaluation):
            return out
        low, high = LAMBDA_BOUNDS
        share = low + (high - low) * torch.sigmoid(self.lambda_logit)
        aux = resize(self.aux_adapter(aux), x)
        aux = F.silu(self.aux_norm1(self.aux_reduce(aux)))
        return out + share * self.gate * self.aux_norm2(self.aux_expand(aux))
