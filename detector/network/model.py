"""The hybrid detector: backbone, neck, encoder, decoder, heads."""

from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.backbone import Backbone
from detector.network.decoder import Decoder, Queries
from detector.network.encoder import Encoder
from detector.network.heads import Heads
from detector.network.neck import Neck
from detector.network.position import cell_centers, encode_position

LEVEL_STD = 0.02


class Predictions(TypedDict):
    """What the detector returns; ``aux`` and ``dense`` in training only."""

    logits: Tensor  # (B, N, num_classes + 1), background last
    boxes: Tensor  # (B, N, 4) cxcywh in [0, 1] of the square input
    references: Tensor  # (B, N, 2) reference points after the last layer
    iou_logits: NotRequired[Tensor]  # (B, N), their sigmoid the IoU that the box is thought to have
    aux: NotRequired[list[tuple[Tensor, Tensor]]]  # logits and boxes of each earlier layer
    dense: NotRequired[list[Tensor]]  # (B, num_classes + 4, H, W) of p3, p4, p5


class HybridDetector(nn.Module):
    """DCNv4 and neighborhood-attention backbone, BiFPN neck, deformable encoder and decoder.

    Built with weights drawn from ``seed`` alone; the global generator is left as it was.
    """

    def __init__(self, config: HybridConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = Backbone(config)
            self.neck = Neck(config)
            # One row per level, from the coarsest (p6) to the finest (p3).
            self.level_embed = nn.Parameter(torch.randn(4, config.d_model) * LEVEL_STD)
            self.encoder = Encoder(config)
            self.queries = Queries(config)
            self.decoder = Decoder(config)
            self.heads = Heads(config)

    def forward(self, images: Tensor) -> Predictions:
        """
        Args:
            images: (B, 3, S, S), letterboxed and normalized; S a multiple of 32.
        """
        maps, dense = self.backbone(images)
        levels = self.neck(maps)[::-1]  # coarsest first
        shapes = [(int(x.shape[-2]), int(x.shape[-1])) for x in levels]
        memory = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        position, centers = self._positions(shapes, memory)
        memory = self.encoder(memory, position, shapes, centers)

        content, query_position, reference = self.queries(len(images))
        states = self.decoder(content, query_position, memory, shapes, reference)
        (logits, boxes), aux, iou_logits = self.heads(states)
        out = Predictions(logits=logits, boxes=boxes, references=states[-1][1])
        if iou_logits is not None:
            out["iou_logits"] = iou_logits
        if self.training and self.config.aux_loss:
            out["aux"], out["dense"] = aux, dense
        return out

    def _positions(self, shapes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
        """Position encodings (1, tokens, C) and cell centers (1, tokens, 2) of all levels."""
        c = self.config
        positions = [
            encode_position(c.position, height, width, c.d_model, like) + embed
            for (height, width), embed in zip(shapes, self.level_embed, strict=True)
        ]
        centers = [cell_centers(height, width, like) for height, width in shapes]
        return torch.cat(positions)[None], torch.cat(centers)[None]
