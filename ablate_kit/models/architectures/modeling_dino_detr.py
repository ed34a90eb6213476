"""DINO, the detector (Zhang et al. 2023, https://arxiv.org/abs/2203.03605), as a model of
transformers, which lacks it.

A deformable encoder proposes boxes; those with the best classes are where the decoder's queries
begin, whose contents are learned (mixed query selection). Each decoder layer encodes its boxes as
positions and refines them. Queries for denoising, which only training has, are left out.

This file goes with a folder of weights, and needs torch, transformers and the one it imports.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .swin_backbone import SwinBackbone

LARGEST = 10000  # temperature of the sine encoding of boxes
PROPOSED = 0.05  # side of a proposal on the finest level; twice as much on each coarser one
BORDER = 0.01  # proposals nearer to the image's border do not count


SETTINGS: Mapping[str, Any] = {  # and their defaults
    "d_model": 256,
    "num_queries": 900,
    "num_feature_levels": 4,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "encoder_n_points": 4,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "decoder_n_points": 4,
    "learned_contents": True,
    "share_class_embed": True,
    "share_bbox_embed": True,
    "position_temperature_height": 20,
    "position_temperature_width": 20,
    "position_offset": 0,
    "reference_eps": 1e-3,
    "box_eps": 1e-3,
    "soft_nms_iou_threshold": None,
    "soft_nms_candidates": 300,
    "soft_nms_min_score": 1e-3,
    "class_cost": 2,
    "bbox_cost": 5,
    "giou_cost": 2,
    "bbox_loss_coefficient": 5,
    "giou_loss_coefficient": 2,
    "focal_alpha": 0.25,
}


class DinoDetrConfig(PreTrainedConfig):  # type: ignore[misc]
    """Names are those of ``DeformableDetrConfig`` where both have a setting.

    Args:
        learned_contents: whether queries begin with contents of their own, and not with those of
            the encoder's tokens that propose them.
        share_class_embed, share_bbox_embed: whether all decoder layers have one head.
        position_temperature_height, position_temperature_width: of the encoding of places on maps.
        position_offset: what is added to places, which count cells from 1, before they are encoded.
        reference_eps, box_eps: how near to 0 and 1 a box is taken before its logarithm, where it is
            refined for the next layer, and where it is given out.
        soft_nms_iou_threshold: from which overlap on a detection is made to score less beside a
            better one of its class, by whoever reads the outputs; None: never.
        soft_nms_candidates, soft_nms_min_score: of how many of the best detections, and the score
            below which one is left out.
    """

    model_type = "dino_detr"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 (of the library)
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
    }

    def __init__(self, backbone_config: Any = None, **settings: Any) -> None:
        if backbone_config is None:
            backbone_config = {
                "model_type": "resnet",
                "out_features": ["stage2", "stage3", "stage4"],
            }
        if isinstance(backbone_config, dict):
            kind = CONFIG_MAPPING[backbone_config["model_type"]]
            backbone_config = kind.from_dict(backbone_config)
        self.backbone_config = backbone_config
        for name, usual in SETTINGS.items():
            setattr(self, name, settings.pop(name, usual))
        self.auxiliary_loss = False  # the loss of a layer is computed for each by itself
        self.two_stage = True
        super().__init__(**settings)


@dataclass
class DinoDetrOutput(ModelOutput):  # type: ignore[misc]
    """``logits`` (batch, queries, classes); ``pred_boxes`` (batch, queries, 4): center, width and
    height, in parts of the image with its padding."""

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None


class FrozenBatchNorm(nn.Module):
    """Batch norm by statistics that training does not change."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class ConvEncoder(nn.Module):
    """The backbone."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        own = config.model_type == "swin"
        self.model = SwinBackbone(config) if own else AutoBackbone.from_config(config)
        _freeze_norms(self.model)

    def forward(self, pixels: Tensor) -> Sequence[Tensor]:
        return self.model(pixels).feature_maps


class Backbone(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.conv_encoder = ConvEncoder(config)

    def forward(self, pixels: Tensor) -> Sequence[Tensor]:
        return self.conv_encoder(pixels)


class MLP(nn.Module):
    def __init__(self, first: int, hidden: int, last: int, layers: int) -> None:
        super().__init__()
        sizes = [first, *[hidden] * (layers - 1), last]
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Zhu et al. 2021)."""

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.n_heads, self.n_levels, self.n_points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(
        self,
        queries: Tensor,
        values: Tensor,
        centers: Tensor,
        reach: Tensor,
        valid: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """``centers`` (batch, queries, levels, 2); ``reach`` is how far an offset of 1 leads, of a
        shape that spreads over (batch, queries, levels, 2); ``valid`` (batch, tokens)."""
        batch, count, _ = queries.shape
        heads, levels, points = self.n_heads, self.n_levels, self.n_points
        value = self.value_proj(values).masked_fill(~valid[..., None], 0.0)
        value = value.unflatten(2, (heads, -1)).permute(0, 2, 3, 1)  # batch, heads, width, tokens
        shape = (batch, count, heads, levels, points)
        offsets = self.sampling_offsets(queries).view(*shape, 2)
        weights = self.attention_weights(queries).view(batch, count, heads, -1).softmax(-1)
        places = centers[:, :, None, :, None] + offsets * reach[:, :, None, :, None]
        grids = (2 * places - 1).permute(3, 0, 2, 1, 4, 5)  # levels, batch, heads, queries, ...
        parts = value.split([h * w for h, w in sizes], 3)
        sampled = [
            F.grid_sample(
                one.unflatten(3, size).flatten(0, 1), grid.flatten(0, 1), align_corners=False
            )
            for one, size, grid in zip(parts, sizes, grids, strict=True)
        ]
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
        summed = (torch.cat(sampled, -1) * weights).sum(-1)
        return self.output_proj(summed.unflatten(0, (batch, heads)).flatten(1, 2).transpose(1, 2))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, positions: Tensor) -> Tensor:
        places = hidden + positions
        query, key, value = (
            projection(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection, x in (
                (self.q_proj, places),
                (self.k_proj, places),
                (self.v_proj, hidden),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__()
        width, hidden = config.d_model, config.encoder_ffn_dim
        self.self_attn = DeformableAttention(
            width,
            config.encoder_attention_heads,
            config.num_feature_levels,
            config.encoder_n_points,
        )
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        centers: Tensor,
        reach: Tensor,
        valid: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        attended = self.self_attn(hidden + positions, hidden, centers, reach, valid, sizes)
        hidden = self.self_attn_layer_norm(hidden + attended)
        return self.final_layer_norm(hidden + self.fc2(F.relu(self.fc1(hidden))))


class Encoder(nn.Module):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        valid_ratios: Tensor,
        valid: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        places = []
        for level, (height, width) in enumerate(sizes):
            ratio = valid_ratios[:, None, level]
            y, x = _grid(height, width, hidden)
            places.append(torch.stack((x, y), -1).flatten(0, 1)[None] / ratio)
        centers = torch.cat(places, 1)[:, :, None] * valid_ratios[:, None]
        reach = torch.tensor([(1 / width, 1 / height) for height, width in sizes]).to(hidden)
        for layer in self.layers:
            hidden = layer(hidden, positions, centers, reach[None, None], valid, sizes)
        return hidden


class DecoderLayer(nn.Module):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__()
        width, hidden, heads = (
            config.d_model,
            config.decoder_ffn_dim,
            config.decoder_attention_heads,
        )
        self.self_attn = SelfAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = DeformableAttention(
            width, heads, config.num_feature_levels, config.decoder_n_points
        )
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        memory: Tensor,
        boxes: Tensor,
        valid: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """``boxes`` (batch, queries, levels, 4)."""
        hidden = self.self_attn_layer_norm(hidden + self.self_attn(hidden, positions))
        centers, sides = boxes.split(2, -1)
        reach = sides * (0.5 / self.encoder_attn.n_points)
        attended = self.encoder_attn(hidden + positions, memory, centers, reach, valid, sizes)
        hidden = self.encoder_attn_layer_norm(hidden + attended)
        return self.final_layer_norm(hidden + self.fc2(F.relu(self.fc1(hidden))))


class Decoder(nn.Module):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.ref_point_head = MLP(2 * width, width, width, 2)
        self.layernorm = nn.LayerNorm(width)

    def forward(
        self,
        hidden: Tensor,
        boxes: Tensor,
        memory: Tensor,
        valid_ratios: Tensor,
        valid: Tensor,
        sizes: Sequence[tuple[int, int]],
        bbox_embed: Sequence[nn.Module],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """For each layer, its normed output, and the boxes that it began from."""
        outputs, began = [], []
        ratios = torch.cat((valid_ratios, valid_ratios), -1)[:, None]
        references = boxes
        for i, layer in enumerate(self.layers):
            on_levels = references[:, :, None] * ratios
            encoded = _sine(on_levels[:, :, 0], self.config.d_model // 2)
            positions = self.ref_point_head(encoded)
            hidden = layer(hidden, positions, memory, on_levels, valid, sizes)
            outputs.append(self.layernorm(hidden))
            began.append(boxes)
            if i + 1 < len(self.layers):
                change = bbox_embed[i](hidden)
                boxes = (change + _logit(references, self.config.reference_eps)).sigmoid()
                references = boxes.detach()  # what is given out looks forward twice
        return outputs, began


class DinoDetrModel(nn.Module):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__()
        self.config = config
        width, levels = config.d_model, config.num_feature_levels
        self.backbone = Backbone(config.backbone_config)
        channels = self.backbone.conv_encoder.model.channels
        further = [channels[-1], *[width] * levels][: levels - len(channels)]
        projections = [nn.Conv2d(count, width, 1) for count in channels]
        projections += [nn.Conv2d(count, width, 3, stride=2, padding=1) for count in further]
        self.input_proj = nn.ModuleList(
            nn.Sequential(one, nn.GroupNorm(32, width)) for one in projections
        )
        self.level_embed = nn.Parameter(torch.randn(levels, width))
        self.encoder = Encoder(config)
        self.enc_output, self.enc_output_norm = nn.Linear(width, width), nn.LayerNorm(width)
        if config.learned_contents:
            self.query_contents = nn.Embedding(config.num_queries, width)
        self.decoder = Decoder(config)

    def maps(self, pixels: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The levels that the encoder sees, and where they are no padding."""
        features = self.backbone(pixels)
        found: list[Tensor] = []
        for i, projection in enumerate(self.input_proj):
            # The first further level is of the backbone's last, the next ones each of that before.
            source = found[-1] if i > len(features) else features[min(i, len(features) - 1)]
            found.append(projection(source))
        masks = [F.interpolate(mask[None].float(), size=one.shape[-2:])[0].bool() for one in found]
        return found, masks

    def positions(self, masks: Sequence[Tensor], like: Tensor) -> Tensor:
        """Of all tokens, (batch, tokens, width)."""
        width = self.config.d_model // 2
        temperatures = (
            self.config.position_temperature_height,
            self.config.position_temperature_width,
        )
        found = []
        for level, mask in enumerate(masks):
            parts = []
            for axis, temperature in zip((1, 2), temperatures, strict=True):
                place = mask.cumsum(axis, dtype=torch.float32)
                end = place[:, -1:] if axis == 1 else place[:, :, -1:]
                place = (place + self.config.position_offset) / (end + 1e-6) * 2 * math.pi
                parts.append(_waves(place, width, temperature))
            encoded = torch.cat(parts, -1).flatten(1, 2).to(like.dtype)
            found.append(encoded + self.level_embed[level])
        return torch.cat(found, 1)


class DinoDetrPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    config_class = DinoDetrConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"


class DinoDetrForObjectDetection(DinoDetrPreTrainedModel):
    def __init__(self, config: DinoDetrConfig) -> None:
        super().__init__(config)
        self.loss_type = "DeformableDetrForObjectDetection"
        width, layers = config.d_model, config.decoder_layers
        self.model = DinoDetrModel(config)
        self.class_embed = nn.ModuleList(
            nn.Linear(width, config.num_labels)
            for _ in range(1 if config.share_class_embed else layers)
        )
        self.bbox_embed = nn.ModuleList(
            MLP(width, width, 4, 3) for _ in range(1 if config.share_bbox_embed else layers)
        )
        self.enc_class_embed = nn.Linear(width, config.num_labels)
        self.enc_bbox_embed = MLP(width, width, 4, 3)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        labels: Sequence[dict[str, Tensor]] | None = None,
        **others: Any,
    ) -> DinoDetrOutput:
        """
        Args:
            pixel_values: (batch, 3, height, width).
            pixel_mask: (batch, height, width), 0 where an image is padded.
            labels: of each image ``class_labels`` and ``boxes``, for a loss: that of each decoder
                layer and of the proposals.
        """
        config, model = self.config, self.model
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.long)
        maps, masks = model.maps(pixel_values, pixel_mask)
        sizes = [(one.shape[-2], one.shape[-1]) for one in maps]
        hidden = torch.cat([one.flatten(2) for one in maps], 2).transpose(1, 2)
        valid = torch.cat([one.flatten(1) for one in masks], 1)
        ratios = torch.stack([_valid_ratio(one) for one in masks], 1).to(hidden.dtype)
        memory = model.encoder(hidden, model.positions(masks, hidden), ratios, valid, sizes)

        proposals, usable = _proposals(masks, valid, memory)
        tokens = model.enc_output_norm(model.enc_output(memory.masked_fill(~usable, 0.0)))
        scores = self.enc_class_embed(tokens)
        best = scores.max(-1).values.topk(config.num_queries, 1).indices[..., None]
        chosen = tokens.gather(1, best.expand(-1, -1, tokens.shape[-1]))
        unbounded = self.enc_bbox_embed(chosen) + proposals.gather(1, best.expand(-1, -1, 4))
        contents = (
            model.query_contents.weight.expand(len(hidden), -1, -1)
            if config.learned_contents
            else chosen.detach()
        )
        queries, began = model.decoder(
            contents, unbounded.detach().sigmoid(), memory, ratios, valid, sizes, self._of_layers()
        )
        logits, boxes = self._outputs(len(queries) - 1, queries, began)
        loss = loss_dict = None
        if labels is not None:
            proposed = scores.gather(1, best.expand(-1, -1, scores.shape[-1])), unbounded.sigmoid()
            layers = [self._outputs(i, queries, began) for i in range(len(queries) - 1)]
            loss, loss_dict = self._loss((logits, boxes), labels)
            for name, one in (("proposals", proposed), *enumerate(layers)):
                more, terms = self._loss(one, labels)
                loss = loss + more
                loss_dict |= {f"{term}_{name}": value for term, value in terms.items()}
        return DinoDetrOutput(loss=loss, loss_dict=loss_dict, logits=logits, pred_boxes=boxes)

    def _of_layers(self) -> Sequence[nn.Module]:
        """The head of boxes of each decoder layer."""
        heads = list(self.bbox_embed)
        return heads * self.config.decoder_layers if self.config.share_bbox_embed else heads

    def _outputs(
        self, layer: int, queries: Sequence[Tensor], began: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        classes = self.class_embed[0 if self.config.share_class_embed else layer]
        change = self._of_layers()[layer](queries[layer])
        boxes = (change + _logit(began[layer], self.config.box_eps)).sigmoid()
        return classes(queries[layer]), boxes

    def _loss(
        self, outputs: tuple[Tensor, Tensor], labels: Sequence[dict[str, Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits, boxes = outputs
        loss, terms, _ = self.loss_function(logits, labels, logits.device, boxes, self.config)
        return loss, terms


def _freeze_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm(child.num_features))
        else:
            _freeze_norms(child)


def _logit(x: Tensor, eps: float) -> Tensor:
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def _grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of each cell of a map, from 0 to 1."""
    y = torch.linspace(0.5, height - 0.5, height, device=like.device) / height
    x = torch.linspace(0.5, width - 0.5, width, device=like.device) / width
    found = torch.meshgrid(y.to(like.dtype), x.to(like.dtype), indexing="ij")
    return found[0], found[1]


def _valid_ratio(mask: Tensor) -> Tensor:
    """How much of a map's width and height is no padding, (batch, 2)."""
    height, width = mask.shape[1:]
    return torch.stack((mask[:, 0].sum(1) / width, mask[:, :, 0].sum(1) / height), -1)


def _waves(place: Tensor, width: int, temperature: float) -> Tensor:
    """Sines and cosines of a number, (..., width)."""
    exponent = torch.arange(width, device=place.device) // 2 * 2 / width
    angle = place[..., None] / temperature**exponent
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2)


def _sine(boxes: Tensor, width: int) -> Tensor:
    """The encoding of center, width and height: of y, x, width and height, one after the other."""
    x, y, w, h = (boxes.float() * 2 * math.pi).unbind(-1)
    parts = [_waves(one, width, LARGEST) for one in (y, x, w, h)]
    return torch.cat(parts, -1).to(boxes.dtype)


def _proposals(masks: Sequence[Tensor], valid: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """A box around each token's place, before the sigmoid, and which of them count."""
    found = []
    for level, mask in enumerate(masks):
        height, width = mask.shape[1:]
        inside = torch.stack((mask[:, 0].sum(1), mask[:, :, 0].sum(1)), -1)[:, None, None]
        y = torch.arange(height, device=mask.device, dtype=torch.float32)
        x = torch.arange(width, device=mask.device, dtype=torch.float32)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centers = (torch.stack((columns, rows), -1) + 0.5) / inside
        sides = torch.full_like(centers, PROPOSED * 2.0**level)
        found.append(torch.cat((centers, sides), -1).flatten(1, 2))
    boxes = torch.cat(found, 1)
    usable = ((boxes > BORDER) & (boxes < 1 - BORDER)).all(-1, keepdim=True) & valid[..., None]
    unbounded = (boxes / (1 - boxes)).log().masked_fill(~usable, float("inf"))
    return unbounded.to(memory.dtype), usable
