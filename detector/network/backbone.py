"""The hybrid backbone: four stages, programmable gradient information, cross-scale injection."""

import math

from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.modules.csi import CSI
from detector.network.modules.pgi import PGI
from detector.network.ops.layout import by_pixels
from detector.network.stages import (
    AttentionBlock,
    DeformableBlock,
    Down,
    PlainBlock,
    SplitBlock,
    Stem,
)

Maps = tuple[Tensor, Tensor, Tensor, Tensor]
BOX_CHANNELS = 4  # of the dense heads; the thesis gives them no loss, its checkpoints hold them


class Backbone(nn.Module):
    """Image to the maps p3, p4, p5, p6 at strides 4, 8, 16 and 32."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        c3, c4, c5, c6 = config.widths
        n0, n1, n2, _ = config.depths
        rates = drop_path_rates(config)
        self.stem = Stem(c3)
        self.stage0 = nn.ModuleList(PlainBlock(c3, config) for _ in range(n0))
        self.stage1 = nn.ModuleList(DeformableBlock(c3, config) for _ in range(n1))
        self.pgi1 = PGI(c3, c3, config) if 1 in config.pgi else None
        self.down1 = Down(c3, c4, config)
        self.csi = CSI(c3, c4) if config.csi else None
        self.pgi2 = PGI(c4, c3, config) if 2 in config.pgi else None
        self.stage2 = nn.ModuleList(
            SplitBlock(c4, rate, config) for rate in rates[n0 + n1 : n0 + n1 + n2]
        )
        self.down2 = Down(c4, c5, config)
        self.pgi3 = PGI(c5, c4, config) if 3 in config.pgi else None
        self.stage3 = nn.ModuleList(
            AttentionBlock(c5, rate, config, i) for i, rate in enumerate(rates[n0 + n1 + n2 :])
        )
        self.down3 = Down(c5, c6, config)
        self.dense_heads = nn.ModuleList(
            _dense_head(channels, config) for channels in (c3, c4, c5) if config.aux_loss
        )

    def forward(self, image: Tensor) -> tuple[Maps, list[Tensor]]:
        """(B, 3, S, S) to four maps and, in training, dense class scores of the first three."""
        s0 = _chain(self.stage0, self.stem(by_pixels(image)))
        p3 = _guided(self.pgi1, _chain(self.stage1, s0), aux=s0)
        p4 = self.down1(p3)
        if self.csi is not None:
            p4 = self.csi(fine=p3, coarse=p4)
        p4 = _chain(self.stage2, _guided(self.pgi2, p4, aux=p3))
        p5 = _chain(self.stage3, _guided(self.pgi3, self.down2(p4), aux=p4))
        p6 = self.down3(p5)
        dense = []
        if self.training:
            pairs = zip(self.dense_heads, (p3, p4, p5), strict=False)
            dense = [head(features) for head, features in pairs]
        return (p3, p4, p5, p6), dense


def drop_path_rates(config: HybridConfig) -> list[float]:
    """One rate per block: max * (1 - cos(pi * i / (n - 1))) / 2, and 0 in stages 0 and 1."""
    n = sum(config.depths)
    early = config.depths[0] + config.depths[1]
    return [
        config.drop_path * (1 - math.cos(math.pi * i / (n - 1))) / 2 if i >= early else 0.0
        for i in range(n)
    ]


def _dense_head(channels: int, config: HybridConfig) -> nn.Conv2d:
    head = nn.Conv2d(channels, config.num_classes + BOX_CHANNELS, 1)
    nn.init.normal_(head.weight, std=0.01)
    prior = config.dense_prior
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    nn.init.constant_(head.bias[: config.num_classes], -math.log((1 - prior) / prior))  # type: ignore[index]
    return head


def _guided(pgi: PGI | None, x: Tensor, aux: Tensor) -> Tensor:
    return x if pgi is None else pgi(x, aux)


def _chain(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x
