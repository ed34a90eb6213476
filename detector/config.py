"""Every size and switch of the hybrid detector, with its default and its meaning."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from detector.errors import UserError, did_you_mean

STRIDES = (4, 8, 16, 32)
"""Strides of the maps p3, p4, p5, p6 (p3 has stride 4 in this detector)."""

DCN_GROUP_CHANNELS = 16
"""Channels of one DCNv4 group; the compiled kernel takes multiples of 16 only."""

NORM_GROUPS = 32
"""Groups of group norm, or their greatest common divisor with the channels."""

_MOST_LAYERS = 1000


@dataclass(frozen=True)
class HybridConfig:
    """The hybrid detector, as a value. The defaults are the thesis' baseline.

    Raises ``UserError`` for values and combinations that no network can be built from.
    """

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

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(HybridConfig).items():
            object.__setattr__(self, field, _checked(field, getattr(self, field), kind))
        _validate(self)

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
        count, default = _LAYER_SIZES[name](self)
        return (default,) * count if given is None else given

    @property
    def stage2_heads(self) -> int:
        """Heads of the neighborhood attention in stage 2: one per 32 of its channels."""
        return max(1, self.widths[1] // 64)

    def replace(self, **changes: Any) -> "HybridConfig":
        """A copy with some values changed; unknown names are refused."""
        _refuse_unknown(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "HybridConfig":
        _refuse_unknown(values)
        return HybridConfig(**values)


def preset(name: object) -> HybridConfig:
    if not isinstance(name, str) or name not in PRESETS:
        expected, near = ", ".join(PRESETS), did_you_mean(str(name), PRESETS)
        raise UserError(f'unknown preset "{name}"; expected one of {expected}{near}')
    return PRESETS[name]


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(HybridConfig)]
    for name in values:
        if name not in known:
            raise UserError(
                f'the hybrid detector has no setting "{name}"{did_you_mean(name, known)}'
            )


def _checked(name: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind``, where JSON and YAML could only say it another way (list, int)."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if value in options:
            return value
        raise UserError(f"{name} is {value!r}; expected {' or '.join(map(repr, options))}")
    if get_origin(kind) is tuple:
        numbers = (int, float) if options[0] is float else (int,)
        if isinstance(value, list | tuple) and all(type(item) in numbers for item in value):
            open_ended = options[-1] is Ellipsis
            if open_ended or len(value) == len(options):
                return tuple(options[0](item) for item in value)
        count = "" if options[-1] is Ellipsis else f"{len(options)} "
        what = "numbers" if options[0] is float else "whole numbers"
        raise UserError(f"{name} is {value!r}; expected {count}{what}")
    if type(None) in options:  # X | None
        return None if value is None else _checked(name, value, options[0])
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{name} is {value!r}; expected {_spoken(kind)}")
    return value


def _spoken(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}[kind]


def _validate(c: HybridConfig) -> None:
    """Refuses what would crash or silently do nothing; each rule names the numbers at odds."""
    layers = (*c.depths, c.attention_depth, c.neck_repeats, c.encoder_layers, c.decoder_layers)
    if max(layers) > _MOST_LAYERS:  # a slip, or a file that is to keep us busy
        raise UserError(
            f"depths are {c.depths}, attention_depth, neck_repeats, encoder_layers, decoder_layers "
            f"{layers[4:]}; expected at most {_MOST_LAYERS} of each"
        )
    at_least_one = (
        *(("widths", w) for w in c.widths),
        *(("depths", d) for d in (c.depths[0], c.depths[3])),
        ("d_model", c.d_model),
        ("num_classes", c.num_classes),
        ("attention_depth", c.attention_depth),
        ("attention_heads", c.attention_heads),
        ("neck_repeats", c.neck_repeats),
        ("heads", c.heads),
        ("encoder_points", c.encoder_points),
        ("decoder_layers", c.decoder_layers),
        ("queries", c.queries),
        *(("decoder_points", p) for p in c.points),
    )
    for name, value in at_least_one:
        if value < 1:
            raise UserError(f"{name} is {getattr(c, name)}; expected at least 1")
    for name, value in (("encoder_layers", c.encoder_layers), ("depths", min(c.depths))):
        if value < 0:
            raise UserError(f"{name} is {getattr(c, name)}; expected 0 or more")
    for name in ("drop_path", "transformer_drop_path", "deformable_dropout"):
        if not 0.0 <= getattr(c, name) < 1.0:
            raise UserError(f"{name} is {getattr(c, name)}; expected 0 <= {name} < 1")
    if not 0.0 < c.dense_prior < 1.0:
        raise UserError(f"dense_prior is {c.dense_prior}; expected a probability between 0 and 1")
    if c.query_std <= 0.0 or c.mlp_ratio <= 0.0:
        raise UserError("query_std and mlp_ratio must be positive")
    # The neck adds maps that a strided convolution (rounding up) and a 2x2 pooling (rounding
    # down) made; they only fit for multiples of 32.
    if c.image_size < 32 or c.image_size % 32:
        near = max(32, round(c.image_size / 32) * 32)
        raise UserError(f"image_size is {c.image_size}; expected a multiple of 32, such as {near}")
    if c.image_size == STRIDES[-1] and c.norm == "gn":
        # p6 is a single cell: with a group per channel, its norm would leave nothing of it.
        for name, channels in (("widths[3]", c.widths[3]), ("d_model", c.d_model)):
            if math.gcd(NORM_GROUPS, channels) == channels:
                raise UserError(
                    f"image_size is {c.image_size}, so p6 is one cell, and {name} is {channels}, "
                    f'so norm "gn" has a group per channel: it would leave nothing of p6. Expected '
                    f"an image_size from {2 * STRIDES[-1]} on, or more channels"
                )
    if c.position == "cropped" and c.image_size // STRIDES[0] > 640:
        raise UserError(f'image_size {c.image_size} is too large for position "cropped" (2560)')
    p3, p4, p5, _ = c.widths
    for name, channels in (("widths[0]", p3), ("half of widths[1]", p4 // 2)):
        if channels % DCN_GROUP_CHANNELS:
            raise UserError(
                f"{name} is {channels}; DCNv4 expects a multiple of {DCN_GROUP_CHANNELS}"
            )
    if p4 % 2 or p5 % 4:
        raise UserError(
            f"widths are {c.widths}; expected widths[1] even and widths[2] divisible by 4"
        )
    if p5 % c.attention_heads:
        raise UserError(
            f"widths[2] is {p5}; expected a multiple of attention_heads {c.attention_heads}"
        )
    if not set(c.pgi) <= {1, 2, 3} or list(c.pgi) != sorted(set(c.pgi)):
        raise UserError(f"pgi is {list(c.pgi)}; expected some of the stages 1, 2, 3, in order")
    if c.pgi_in_evaluation and not c.pgi:
        raise UserError("pgi_in_evaluation needs PGI in some stage; pgi is []")
    _validate_stage2(c)
    _validate_queries(c)
    _validate_denoising(c)
    _validate_layers(c)
    if c.iou_gamma < 0.0:
        raise UserError(f"iou_gamma is {c.iou_gamma}; expected 0 or more")
    if c.iou_gamma != 1.0 and not c.iou_head:
        raise UserError("iou_gamma needs the IoU head; set iou_head")
    if c.attention_kernel < 3 or c.attention_kernel % 2 == 0:
        raise UserError(
            f"attention_kernel is {c.attention_kernel}; expected an odd number from 3 on"
        )
    if c.d_model % c.heads or c.d_model % 4:
        raise UserError(f"d_model is {c.d_model}; expected a multiple of heads {c.heads} and of 4")
    if len(c.points) != c.decoder_layers:
        raise UserError(
            f"decoder_points has {len(c.points)} entries for {c.decoder_layers} decoder_layers"
        )


_LAYER_SIZES: dict[str, Callable[[HybridConfig], tuple[int, int]]] = {
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

LAYER_SIZES = tuple(_LAYER_SIZES)


def _validate_layers(c: HybridConfig) -> None:
    given = {name: getattr(c, name) for name in (*_LAYER_SIZES, "decoder_refine")}
    for name, values in given.items():
        if values is None:
            continue
        layers = _LAYER_SIZES[name](c)[0] if name in _LAYER_SIZES else c.decoder_layers
        if len(values) != layers:
            raise UserError(f"{name} has {len(values)} entries for {layers} layers")
        if not all(0 <= value < math.inf for value in values):
            raise UserError(f"{name} is {list(values)}; expected 0 or more of each layer")
        if name == "neck_blocks" and max(values) > 1:
            raise UserError(f"neck_blocks is {list(values)}; expected 1, or 0 for no block")


def _validate_stage2(c: HybridConfig) -> None:
    if c.stage2 != "gate":
        for name in ("gate_kernels", "gate_spatial", "gate_deform_share"):
            if not getattr(c, name):
                raise UserError(f'{name} is a part of stage2 "gate"; stage2 is "{c.stage2}"')
    if c.stage2 == "dcn":
        if c.stage2_dropout:
            raise UserError('stage2_dropout acts on attention, which stage2 "dcn" does not have')
        return
    if c.stage2_dropout and c.drop_path == 0.0:
        raise UserError("stage2_dropout takes its rate from drop_path, which is 0")
    half = c.widths[1] // 2
    if half % c.stage2_heads:
        raise UserError(
            f"half of widths[1] is {half}; the attention of stage2 expects a multiple of its "
            f"{c.stage2_heads} heads (one per 32 channels)"
        )


def _validate_queries(c: HybridConfig) -> None:
    kinds = {
        name: getattr(c, name) for name in ("proposal_queries", "peak_queries", "grid_queries")
    }
    for name, count in kinds.items():
        if count < 0:
            raise UserError(f"{name} is {count}; expected 0 or more")
    if sum(kinds.values()) > c.queries:
        spoken = " + ".join(f"{name} {count}" for name, count in kinds.items())
        raise UserError(f"{spoken} is more than the {c.queries} queries")
    if c.proposal_queries and not c.query_objectness:
        raise UserError(
            "proposal_queries are chosen by their objectness, which only learns with "
            "query_objectness: set it, too"
        )
    cells = [(c.image_size // stride) ** 2 for stride in STRIDES]
    for name, most in (("proposal_queries", sum(cells)), ("peak_queries", sum(cells[:3]))):
        if kinds[name] > most:
            raise UserError(
                f"{name} is {kinds[name]}; an image of {c.image_size} has {most} cells for them"
            )


def _validate_denoising(c: HybridConfig) -> None:
    if c.denoising == "none":
        for field in fields(c):
            if field.name.startswith("denoising_") and getattr(c, field.name) != field.default:
                raise UserError(f'{field.name} is a part of denoising; denoising is "none"')
        return
    groups, queries = c.denoising_groups, c.denoising_queries
    if groups < 1 or queries < 2:
        raise UserError(
            f"denoising_groups is {groups}, denoising_queries {queries}; expected at least 1 and 2"
        )
    if c.denoising == "thesis" and queries % (2 * groups):
        raise UserError(
            f"denoising_queries is {queries}; the thesis' denoising expects a multiple of "
            f"{2 * groups}: a positive and a negative in each of {groups} denoising_groups"
        )
    if not 0.0 <= c.denoising_label_noise <= 1.0:
        raise UserError(
            f"denoising_label_noise is {c.denoising_label_noise}; expected a probability"
        )
    if c.denoising_box_noise < 0.0:
        raise UserError(f"denoising_box_noise is {c.denoising_box_noise}; expected 0 or more")
    if c.denoising_layers == "all" and (not c.aux_loss or c.decoder_layers == 1):
        raise UserError(
            'denoising_layers "all" needs heads on earlier layers: aux_loss and 2 decoder_layers'
        )
    if c.d_model % 8:
        raise UserError(f"d_model is {c.d_model}; denoising expects a multiple of 8")


CONTRASTIVE_DENOISING: dict[str, Any] = {
    "denoising": "contrastive",
    "denoising_queries": 200,
    "denoising_groups": 100,
    "denoising_label_noise": 0.25,
    "denoising_box_noise": 1.0,
    "denoising_layers": "all",
}
"""DINO's denoising (its 4-scale config: 100 pairs, half of half of the labels, boxes by 1.0)."""

PRESETS: dict[str, HybridConfig] = {
    "thesis": HybridConfig(),
    "recommended": HybridConfig(
        pad_color="mean",
        dcn_grid="full",
        dcn_offset_scale=1.0,
        pgi_in_evaluation=True,
        query_std=1.0,
        position="sine",
        boxes="refined",
        **CONTRASTIVE_DENOISING,
    ),
    "tiny": HybridConfig(
        image_size=160,
        pad_color="mean",
        widths=(32, 64, 96, 128),
        depths=(1, 1, 2, 1),
        drop_path=0.0,
        dcn_grid="full",
        dcn_offset_scale=1.0,
        attention_depth=1,
        attention_heads=4,
        pgi_in_evaluation=True,
        mlp_ratio=2.0,
        d_model=64,
        neck_repeats=1,
        heads=4,
        encoder_layers=1,
        encoder_points=4,
        decoder_layers=3,
        queries=40,
        query_std=1.0,
        transformer_drop_path=0.0,
        deformable_dropout=0.0,
        position="sine",
        boxes="refined",
    ),
}
"""Named starting points: the thesis' network, the same with its oddities mended, and a small model
that trains on a CPU."""
