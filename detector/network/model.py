"""The hybrid detector: backbone, neck, encoder, decoder, heads."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.backbone import Backbone
from detector.network.decoder import Decoder
from detector.network.encoder import Encoder
from detector.network.float32 import without_autocast
from detector.network.heads import Heads
from detector.network.modules.denoising import Denoised, Denoising, add_noise
from detector.network.neck import Neck
from detector.network.position import cell_centers, encode_position
from detector.network.queries import Queries, concatenated

LEVEL_STD = 0.02


class Objects(TypedDict):
    """The objects of a training image, as far as denoising wants to know."""

    boxes: Tensor  # (n, 4) cxcywh in [0, 1] of the square input
    labels: Tensor  # (n,) class indices


class Predictions(TypedDict):
    """What the detector returns; ``aux``, ``dense`` and what denoises in training only."""

    logits: Tensor  # (B, N, num_classes + 1), background last
    boxes: Tensor  # (B, N, 4) cxcywh in [0, 1] of the square input
    references: Tensor  # (B, N, 2) reference points after the last layer
    iou_logits: NotRequired[Tensor]  # (B, N), their sigmoid the IoU that the box is thought to have
    objectness_logits: NotRequired[Tensor]  # (B, N), whether the query shows an object
    aux: NotRequired[list[tuple[Tensor, Tensor]]]  # logits and boxes of each earlier layer
    dense: NotRequired[list[Tensor]]  # (B, num_classes + 4, H, W) of p3, p4, p5
    denoised: NotRequired[Denoised]  # what the denoising queries should become, and ...
    denoising: NotRequired[list[tuple[Tensor, Tensor]]]  # ... their logits and boxes per layer


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
            self.denoising = Denoising(config) if config.denoising != "none" else None

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Objects] | None = None,
        generator: torch.Generator | None = None,
    ) -> Predictions:
        """
        Args:
            images: (B, 3, S, S), letterboxed and normalized; S a multiple of 32.
            targets: what the images show; denoising trains with them, nothing else looks.
            generator: draws the denoising queries' noise; on the targets' device.

        Raises ``ValueError`` for a model with denoising in training without targets.
        """
        maps, dense = self.backbone(images)
        levels = self.neck(maps)[::-1]  # coarsest first
        shapes = [(int(x.shape[-2]), int(x.shape[-1])) for x in levels]
        memory = torch.cat([x.flatten(2).transpose(1, 2) for x in levels], dim=1)
        position, centers = self._positions(shapes, memory)
        memory = self.encoder(memory, position, shapes, centers)

        queries, objectness = self.queries(memory, position, levels)
        noisy = self._noisy(targets, generator)
        denoising = 0 if noisy is None else len(noisy.group)
        attention_mask = None
        if noisy is not None and self.denoising is not None:
            attention_mask = self.denoising.attention_mask(noisy, self.config.queries)
            queries = concatenated([self.denoising(noisy, self.queries.position), queries])
        states = self.decoder(
            queries.content, queries.position, memory, shapes, queries.reference, attention_mask
        )
        found = [(x[:, denoising:], reference[:, denoising:]) for x, reference in states]
        (logits, boxes), aux, iou_logits = self.heads(found)
        out = Predictions(logits=logits, boxes=boxes, references=found[-1][1])
        if iou_logits is not None:
            out["iou_logits"] = iou_logits
        if objectness is not None:
            out["objectness_logits"] = objectness
        if self.training and self.config.aux_loss:
            out["aux"], out["dense"] = aux, dense
        if noisy is not None:
            copies = [(x[:, :denoising], reference[:, :denoising]) for x, reference in states]
            every_layer = self.config.denoising_layers == "all"
            out["denoised"] = noisy
            out["denoising"] = self.heads.denoised(copies, every_layer)
        return out

    def _noisy(
        self, targets: Sequence[Objects] | None, generator: torch.Generator | None
    ) -> Denoised | None:
        if self.denoising is None or not self.training:
            return None
        if targets is None:
            raise ValueError("training with denoising needs targets: model(images, targets)")
        labels = [target["labels"] for target in targets]
        boxes = [target["boxes"] for target in targets]
        return add_noise(labels, boxes, self.config, generator)

    @without_autocast
    def _positions(self, shapes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
        """Position encodings (1, tokens, C) and cell centers (1, tokens, 2) of all levels."""
        c = self.config
        positions = [
            encode_position(c.position, height, width, c.d_model, like) + embed
            for (height, width), embed in zip(shapes, self.level_embed, strict=True)
        ]
        centers = [cell_centers(height, width, like) for height, width in shapes]
        return torch.cat(positions)[None], torch.cat(centers)[None]
