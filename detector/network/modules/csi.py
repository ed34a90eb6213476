"""Cross-scale injection: the stride 4 map added to the stride 8 map."""

import torch
from torch import Tensor, nn

from detector.network.layers import ChannelLayerNorm, conv, resize

WEIGHT_INIT = 0.15


class CSI(nn.Module):
    """coarse + sigmoid(weight) * norm(resize(align(fine))).

    ``coarse`` was made from ``fine`` by the down-sampling just before.
    """

    def __init__(self, fine_channels: int, coarse_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, coarse_channels, 1, 1), WEIGHT_INIT))
        self.align = conv(fine_channels, coarse_channels, 1)
        self.norm = ChannelLayerNorm(coarse_channels)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return coarse + torch.sigmoid(self.weight) * self.norm(resize(self.align(fine), coarse))
