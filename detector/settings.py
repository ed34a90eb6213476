"""Every size and switch of the hybrid detector, with its default and its meaning; and the sizes
that no setting changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

STRIDES = (4, 8, 16, 32)
"""Strides of the maps p3, p4, p5, p6 (p3 has stride 4 in this detector)."""

DCN_GROUP_CHANNELS = 16
"""Channels of one DCNv4 group; the compiled kernel takes multiples of 16 only."""

NORM_GROUPS = 32
"""Groups of group norm, or their greatest common divisor with the channels."""


@dataclass(frozen=True)
class HybridSettings:
    """The hybrid detector, as a value. The defaults are the thesis' baseline."""

    num_classes: int = 20
    image_size: int = 480  # side of the square network input, pixels; a multiple of 32
    pad_color: Literal["gray", "mean"] = "gray"  # letterbox color: (0.5, 0.5, 0.5) or data mean

    # Backbone
    widths: tuple[int, int, int, int] = (128, 256, 640, 768)  # channels of p3, p4, p5, p6
    depths: tuple[int, int, int, int] = (2, 2, 4, 1)  # blocks of stages 0-3; 0 in 1 and 2: none
    norm: Literal["gn", "bn", "ln"] = "gn"  # group norm, batch norm, layer norm over channels
    layer_scale: float | None = 1.0  # initial scale of stage 0 and 1 branches; None: no scale
    drop_path: float = 0.15  # highest rate of the cosine schedule over the blocks
    dcn_offset_scale: float = 0.1  # factor of the learned offsets of DCNv4
    dcn_grid: Literal["scaled", "full"] = "scaled"  # is the 3x3 base grid scaled by it, too?
    attention_depth: int = 2  # neighborhood-attention layers per attention stage (two per block)
    attention_heads: int = 10  # heads of the neighborhood attention in stage 3
    attention_kernel: int = 7  # side of the neighborhood; odd
    stage2: Literal["dcn", "sum", "gate"] = "dcn"  # DCNv4 alone, plus attention, or gated with it
    stage2_deform_norm: bool = True  # norm and SiLU after the DCNv4 of stage 2
    stage2_dropout: bool = False  # the block's drop-path rate as dropout in stage 2's attention
    gate_kernels: bool = True  # learned shares of two kernels; else halves
    gate_spatial: bool = True  # learned share of them per pixel; else its initial value
    gate_deform_share: bool = True  # learned share of DCNv4's branch; else its initial value
    mlp_ratio: float = 4.0  # hidden width of the stage 3 MLPs over the stage's width
    pgi: tuple[int, ...] = (1, 2, 3)  # stages with programmable gradient information
    pgi_in_evaluation: bool = False  # is their training-only branch there in evaluation, too?
    csi: bool = True  # cross-scale injection of p3 into the input of stage 2
    dense_prior: float = 0.05  # initial foreground probability of the dense auxiliary heads

    # Neck and transformer
    d_model: int = 320
    neck_repeats: int = 2
    heads: int = 10  # attention heads of encoder and decoder
    encoder_layers: int = 2
    encoder_points: int = 4  # sampling points per head and level
    decoder_layers: int = 4
    decoder_points: tuple[int, ...] | None = None  # one per layer; None: 4, ..., 4, 2, 2
    queries: int = 200
    proposal_queries: int = 0  # of the queries, those chosen among the encoder's tokens
    peak_queries: int = 0  # those seeded where the neck's maps respond most
    grid_queries: int = 0  # those seeded on a regular grid over the neck's maps
    query_objectness: bool = False  # predicts whether a query shows an object; chooses proposals
    query_std: float = 0.02  # of the initial query embeddings; sets the spread of references
    transformer_drop_path: float = 0.1
    deformable_dropout: float = 0.1  # on the output of every deformable attention
    position: Literal["cropped", "sine"] = "cropped"  # see detector.network.position
    boxes: Literal["absolute", "refined"] = "absolute"  # predicted alone, or from the reference
    iou_head: bool = False  # predicts the IoU of every query's box
    iou_gamma: float = 1.0  # scores are multiplied by that IoU to this power
    background_gate: bool = True  # and by 1 - p(background)
    denoising: Literal["none", "thesis", "contrastive"] = "none"  # see network.modules.denoising
    denoising_queries: int = 100  # at most, per image; beyond it if contrastive and one group is
    denoising_groups: int = 5  # of copies of all objects; at most, if contrastive
    denoising_label_noise: float = 0.5  # probability of another label, drawn from all classes
    denoising_box_noise: float = 0.4  # of the image (thesis) or half the box (contrastive)
    denoising_layers: Literal["last", "all"] = "last"  # decoder layers where copies are compared
    aux_loss: bool = True  # heads on every decoder layer and dense heads on the backbone

    # Layers of sizes of their own, one number per layer, as a network that was shrunk has them.
    # None: all layers are alike. 0: the layer has no such branch.
    neck_blocks: tuple[int, ...] | None = None  # 1 or 0; of each repeat 3 down, then 4 up
    stage3_heads: tuple[int, ...] | None = None  # of attention_heads; block by block
    stage3_hidden: tuple[int, ...] | None = None  # units of the MLPs
    encoder_heads: tuple[int, ...] | None = None  # of heads, each as wide as before
    encoder_hidden: tuple[int, ...] | None = None  # units of the feed-forward branches
    decoder_self_heads: tuple[int, ...] | None = None
    decoder_cross_heads: tuple[int, ...] | None = None
    decoder_hidden: tuple[int, ...] | None = None
    decoder_refine: tuple[float, ...] | None = None  # how far a layer moves its references

    @property
    def points(self) -> tuple[int, ...]:
        """Sampling points per head and level, one number per decoder layer."""
        if self.decoder_points is not None:
            return self.decoder_points
        layers = self.decoder_layers
        return (4,) * (layers - 2) + (2, 2) if layers >= 2 else (4,) * layers

    def layer_sizes(self, name: str) -> tuple[int, ...]:
        """``stage3_heads``, ``encoder_hidden`` and so on with a number for every layer."""
        given: tuple[int, ...] | None = getattr(self, name)
        count, default = LAYER_SIZES[name](self)
        return (default,) * count if given is None else given

    @property
    def stage2_heads(self) -> int:
        """Heads of the neighborhood attention in stage 2: one per 32 of its channels."""
        return max(1, self.widths[1] // 64)


LAYER_SIZES: dict[str, Callable[["HybridSettings"], tuple[int, int]]] = {
    "neck_blocks": lambda c: (7 * c.neck_repeats, 1),
    "stage3_heads": lambda c: (2 * c.depths[3] * c.attention_depth, c.attention_heads),
    "stage3_hidden": lambda c: (
        2 * c.depths[3] * c.attention_depth,
        int(c.widths[2] * c.mlp_ratio),
    ),
    "encoder_heads": lambda c: (c.encoder_layers, c.heads),
    "encoder_hidden": lambda c: (c.encoder_layers, 2 * c.d_model),
    "decoder_self_heads": lambda c: (c.decoder_layers, c.heads),
    "decoder_cross_heads": lambda c: (c.decoder_layers, c.heads),
    "decoder_hidden": lambda c: (c.decoder_layers, 2 * c.d_model),
}
"""For each size that layers may have of their own: how many layers there are, and its default."""
