"""DEIMv2 (Huang et al. 2025, https://arxiv.org/abs/2509.20787) as its authors' code computes it: a
model of transformers, whose own projects the encoder's output and all maps of the backbone, encodes
each layer's boxes anew, and has ReLU in the heads.

This file goes with a folder of weights, and needs torch, transformers and the one it imports.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Deimv2Config, Deimv2ForObjectDetection
from transformers.models.deimv2.modeling_deimv2 import (
    Deimv2Decoder,
    Deimv2DecoderOutput,
    distance2bbox,
    inverse_sigmoid,
    weighting_function,
)
from transformers.models.dinov3_vit.modeling_dinov3_vit import (
    DINOv3ViTBackbone,
    DINOv3ViTRopePositionEmbedding,
)

from .modeling_deim import prepare


class OriginalDeimv2Config(Deimv2Config):  # type: ignore[misc]
    """A ``dinov3_vit`` in ``backbone_config`` without ``apply_layernorm`` is the small one that
    the authors distilled: no scales of its branches, and no norm of what it hands on."""

    model_type = "original_deimv2"


class Rotations(DINOv3ViTRopePositionEmbedding):  # type: ignore[misc]
    """Position encodings by the ``periods`` of the file, which were rounded to fewer bits."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("periods", 1 / self.inv_freq)

    def forward(self, pixel_values: Tensor) -> Any:
        self.inv_freq = 1 / self.periods
        return super().forward(pixel_values)


def prepare_vit(backbone: DINOv3ViTBackbone) -> None:
    config, embeddings = backbone.config, backbone.embeddings
    backbone.rope_embeddings = Rotations(config)
    unused = ["mask_token"] if config.num_register_tokens else ["mask_token", "register_tokens"]
    for name in unused:  # no part of the model, so that no file has to have it
        values = torch.zeros_like(getattr(embeddings, name))
        delattr(embeddings, name)
        embeddings.register_buffer(name, values, persistent=False)
    if not config.apply_layernorm:
        backbone.norm = nn.Identity()
        for layer in backbone.model.layer:
            layer.layer_scale1 = layer.layer_scale2 = nn.Identity()


class Decoder(Deimv2Decoder):  # type: ignore[misc]
    """Each layer refines the distributions of the distances between a box's edges and those of the
    box of the first layer, as in D-FINE (Peng et al. 2025). Queries' positions are those of the
    boxes that the encoder proposes, for all layers."""

    def forward(
        self,
        encoder_hidden_states: Tensor,
        reference_points: Tensor,
        inputs_embeds: Tensor,
        spatial_shapes: Tensor,
        level_start_index: Tensor | None = None,
        spatial_shapes_list: list[tuple[int, int]] | None = None,
        encoder_attention_mask: Tensor | None = None,
        **settings: Any,
    ) -> Deimv2DecoderOutput:
        """
        Args:
            encoder_hidden_states: (images, places, channels), of all levels.
            reference_points: (images, queries, 4), before the sigmoid.
            inputs_embeds: (images, queries, channels).
            spatial_shapes: (levels, 2), heights and widths; a list, too.
            encoder_attention_mask: of the decoder's self-attention, for denoising.
        """
        bins = weighting_function(self.max_num_bins, self.up, self.reg_scale)
        boxes = F.sigmoid(reference_points)
        positions = self.query_pos_head(boxes).clamp(min=-10, max=10)
        hidden = inputs_embeds
        before: Any = 0.0
        corners: Any = 0.0
        hiddens, all_corners, all_boxes, all_logits, starts = [], [], [], [], []
        for i, layer in enumerate(self.layers):
            hidden = layer(
                hidden,
                position_embeddings=positions,
                reference_points=boxes.unsqueeze(2),
                spatial_shapes=spatial_shapes,
                spatial_shapes_list=spatial_shapes_list,
                encoder_hidden_states=encoder_hidden_states,
                encoder_attention_mask=encoder_attention_mask,
                **settings,
            )
            hiddens.append(hidden)
            detects = self.training or i == self.eval_idx
            if i == 0:
                first = F.sigmoid(self.pre_bbox_head(hidden) + inverse_sigmoid(boxes))
                start = first.detach()
                if detects:
                    all_logits.append(self.class_embed[0](hidden))
                    all_boxes.append(first)
            corners = self.bbox_embed[i](hidden + before) + corners
            refined = distance2bbox(start, self.integral(corners, bins), self.reg_scale)
            if detects:
                all_logits.append(self.lqe_layers[i](self.class_embed[i](hidden), corners))
                all_boxes.append(refined)
                all_corners.append(corners)
                starts.append(start)
            boxes, before = refined.detach(), hidden.detach()
        return Deimv2DecoderOutput(
            last_hidden_state=hidden,
            intermediate_hidden_states=torch.stack(hiddens),
            intermediate_logits=torch.stack(all_logits, dim=1),
            intermediate_reference_points=torch.stack(all_boxes, dim=1),
            intermediate_predicted_corners=torch.stack(all_corners, dim=1),
            initial_reference_points=torch.stack(starts, dim=1),
        )


class OriginalDeimv2ForObjectDetection(Deimv2ForObjectDetection):  # type: ignore[misc]
    config_class = OriginalDeimv2Config

    def __init__(self, config: OriginalDeimv2Config) -> None:
        super().__init__(config)
        self.loss_type = "Deimv2ForObjectDetection"
        self.model.enc_output = nn.Identity()
        decoder = Decoder(config)
        decoder.class_embed = self.model.decoder.class_embed
        decoder.bbox_embed = self.model.decoder.bbox_embed
        self.model.decoder = decoder
        prepare(self, "deimv2")
        maps = self.model.conv_encoder
        if config.backbone_config.model_type == "dinov3_vit":
            prepare_vit(maps.backbone)
        else:
            for i, channels in enumerate(maps.intermediate_channel_sizes):
                if channels == config.encoder_hidden_dim:
                    maps.encoder_input_proj[i] = nn.Identity()
