"""The DCNv4 layer as the thesis builds it: no value or output projection, raw masks."""

import math

from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.ops.dcnv4 import dcnv4
from detector.settings import DCN_GROUP_CHANNELS

KERNEL = 3


class DeformableConv(nn.Module):
    """Samples each pixel at nine learned places per group and sums with learned weights.

    ``offset_mask`` predicts, per group, nine (dx, dy) pairs and nine unnormalized weights; it is
    padded to a multiple of eight outputs as the compiled kernel wants it.
    """

    def __init__(self, channels: int, config: HybridConfig) -> None:
        super().__init__()
        self.groups = channels // DCN_GROUP_CHANNELS
        self.offset_scale = config.dcn_offset_scale
        self.grid_scale = config.dcn_offset_scale if config.dcn_grid == "scaled" else 1.0
        self.offset_mask = nn.Linear(channels, math.ceil(3 * self.groups * KERNEL**2 / 8) * 8)
        nn.init.normal_(self.offset_mask.weight, std=0.01)
        nn.init.normal_(self.offset_mask.bias, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        value = x.permute(0, 2, 3, 1).contiguous()
        out = dcnv4(
            value,
            self.offset_mask(value),
            groups=self.groups,
            kernel=KERNEL,
            offset_scale=self.offset_scale,
            grid_scale=self.grid_scale,
        )
        return out.permute(0, 3, 1, 2)
