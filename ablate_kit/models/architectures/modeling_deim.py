"""DEIM (Huang et al. 2025, https://arxiv.org/abs/2412.04234): D-FINE and RT-DETRv2 as models of
transformers, with SiLU in the heads, where those of the library have ReLU.

This file stands by itself: it goes with a folder of weights, and needs torch and transformers.
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    PreTrainedModel,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

HEADS = re.compile(r"(.+\.)?(query_pos_head|pre_bbox_head|enc_bbox_head|reg_conf|bbox_embed\.\d+)")


class Head(nn.Module):
    """The ``layers`` of a head of the library's, with SiLU between them."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        return self.layers[-1](x)


def prepare(model: PreTrainedModel, kind: str) -> None:
    """Gives a new ``model`` its heads. Its files have the names of the library's ``kind``, which
    change from one version of the library to the next."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    heads = [name for name in names if HEADS.fullmatch(name)]
    for name in heads:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Head(model.get_submodule(name).layers))
    mapping = get_checkpoint_conversion_mapping(kind)
    if mapping is not None:
        register_checkpoint_conversion_mapping(model.config.model_type, mapping, overwrite=True)


class DeimDFineConfig(DFineConfig):  # type: ignore[misc]
    model_type = "deim_d_fine"


class DeimDFineForObjectDetection(DFineForObjectDetection):  # type: ignore[misc]
    config_class = DeimDFineConfig

    def __init__(self, config: DeimDFineConfig) -> None:
        super().__init__(config)
        self.loss_type = "DFineForObjectDetection"
        prepare(self, "d_fine")


class DeimRTDetrV2Config(RTDetrV2Config):  # type: ignore[misc]
    """``query_pos_layers`` is how many layers encode a box as a position: 2 as in RT-DETRv2, or 3,
    which are all as wide as the decoder (``query_pos_method: as_reg``)."""

    model_type = "deim_rt_detr_v2"


class DeimRTDetrV2ForObjectDetection(RTDetrV2ForObjectDetection):  # type: ignore[misc]
    config_class = DeimRTDetrV2Config

    def __init__(self, config: DeimRTDetrV2Config) -> None:
        super().__init__(config)
        self.loss_type = "RTDetrV2ForObjectDetection"
        prepare(self, "rt_detr_v2")
        if getattr(config, "query_pos_layers", 2) == 3:
            width = config.d_model
            sizes = (4, width, width)
            layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
            self.model.decoder.query_pos_head = Head(layers)
