"""Backbone and neck of the detector as an image classifier, to pretrain them."""

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.backbone import Backbone
from detector.network.neck import Neck

HEAD_STD = 0.02


class Classifier(nn.Module):
    """Class scores from the four maps of the backbone, or of the neck on it.

    With ``multi_head`` each level has a linear head on its mean, and the result is the mean of the
    two coarsest levels' scores; the other heads only train. Without, one linear head reads the
    means of all levels.

    Backbone and neck get the very weights that ``HybridDetector(config, seed)`` starts with, so
    that what is initialized specially there is here, too. The dense detection heads are left out.
    """

    def __init__(self, config: HybridConfig, *, neck: bool, multi_head: bool, seed: int) -> None:
        super().__init__()
        self.config = config
        self.multi_head = multi_head
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = Backbone(config)
            self.neck = Neck(config) if neck else None
            widths = (config.d_model,) * 4 if neck else config.widths
            self.classifier = nn.ModuleList(
                _head(width, config.num_classes)
                for width in (widths if multi_head else (sum(widths),))
            )
        self.backbone.dense_heads = nn.ModuleList()  # they never got a gradient here

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, S, S) to (B, num_classes) logits and, in training, those of p3, p4, p5, p6."""
        maps, _ = self.backbone(images)
        if self.neck is not None:
            maps = self.neck(maps)
        means = [x.mean((2, 3)) for x in maps]
        if not self.multi_head:
            return self.classifier[0](torch.cat(means, dim=1)), []
        first = 0 if self.training else 2  # p5 and p6 suffice to evaluate
        levels = [
            head(mean) for head, mean in zip(self.classifier[first:], means[first:], strict=True)
        ]
        return (levels[-2] + levels[-1]) / 2, levels if self.training else []


def _head(width: int, classes: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    nn.init.trunc_normal_(head.weight, std=HEAD_STD)
    nn.init.zeros_(head.bias)
    return head
