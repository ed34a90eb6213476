"""Class and box heads on the decoder's queries."""

import math

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.float32 import without_autocast
from detector.network.layers import LayerScale, xavier_linear

OBJECT_PRIOR = 0.2
BACKGROUND_BIAS = -2.0
SCALE_INIT = 0.8


class DetectionHead(nn.Module):
    """Scores (num_classes + 1 logits, background last) and a box (cxcywh in [0, 1]) per query.

    ``boxes="absolute"`` predicts the box from the content alone, as the thesis does; "refined"
    predicts its center relative to the query's reference point.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.refined = config.boxes == "refined"
        self.class_head = xavier_linear(config.d_model, config.num_classes + 1)
        self.box_head = xavier_linear(config.d_model, 4)
        with torch.no_grad():
            self.class_head.bias.fill_(-math.log((1 - OBJECT_PRIOR) / OBJECT_PRIOR))
            self.class_head.bias[-1] = BACKGROUND_BIAS

    def forward(self, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) and (B, N, 2) to logits (B, N, num_classes + 1) and boxes (B, N, 4)."""
        box = self.box_head(x)
        if self.refined:
            center = box[..., :2] + torch.logit(reference, eps=1e-6)
            box = torch.cat((center, box[..., 2:]), dim=-1)
        return self.class_head(x), box.sigmoid()


class Heads(nn.Module):
    """The head of the last layer, those of the earlier ones, and the norm they all share.

    They run in float32 under autocast, too: half precision cannot place a box.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model, eps=1e-6)
        self.scale = LayerScale(config.d_model, SCALE_INIT)
        self.main = DetectionHead(config)
        early = config.decoder_layers - 1 if config.aux_loss else 0
        self.aux = nn.ModuleList(DetectionHead(config) for _ in range(early))
        self.iou_head = xavier_linear(config.d_model, 1) if config.iou_head else None

    @without_autocast
    def forward(
        self, states: list[tuple[Tensor, Tensor]]
    ) -> tuple[tuple[Tensor, Tensor], list[tuple[Tensor, Tensor]], Tensor | None]:
        """Logits and boxes of the last layer and, in training, of each earlier one; and IoU
        logits (B, N) of the last layer, if there is a head for them."""
        *early, (x, reference) = states
        aux = []
        if self.training:
            aux = [
                head(self.prepare(content), point)
                for head, (content, point) in zip(self.aux, early, strict=False)
            ]
        content = self.prepare(x)
        ious = self.iou_head(content).squeeze(-1) if self.iou_head is not None else None
        return self.main(content, reference), aux, ious

    @without_autocast
    def denoised(
        self, states: list[tuple[Tensor, Tensor]], every_layer: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Logits and boxes of the denoising queries after each layer, or after the last."""
        heads = [*self.aux, self.main] if every_layer else [self.main]
        last = states[-len(heads) :]
        return [
            head(self.prepare(content), point)
            for head, (content, point) in zip(heads, last, strict=True)
        ]

    def prepare(self, x: Tensor) -> Tensor:
        """What the heads read."""
        return self.scale(self.norm(x))
