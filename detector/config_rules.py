"""Which settings of the hybrid detector go together: what would crash, or silently do nothing, is
refused, and each rule names the numbers at odds."""

import math
from dataclasses import fields

from detector.errors import UserError
from detector.settings import DCN_GROUP_CHANNELS, LAYER_SIZES, NORM_GROUPS, STRIDES, HybridSettings

_MOST_LAYERS = 1000


def check_config(c: HybridSettings) -> None:
    """Raises ``UserError`` for the first rule that is broken."""
    _check_numbers(c)
    _check_image(c)
    _check_backbone(c)
    _check_stage2(c)
    _check_queries(c)
    _check_denoising(c)
    _check_layers(c)
    _check_transformer(c)


def _check_numbers(c: HybridSettings) -> None:
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


def _check_image(c: HybridSettings) -> None:
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


def _check_backbone(c: HybridSettings) -> None:
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


def _check_transformer(c: HybridSettings) -> None:
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


def _check_layers(c: HybridSettings) -> None:
    given = {name: getattr(c, name) for name in (*LAYER_SIZES, "decoder_refine")}
    for name, values in given.items():
        if values is None:
            continue
        layers = LAYER_SIZES[name](c)[0] if name in LAYER_SIZES else c.decoder_layers
        if len(values) != layers:
            raise UserError(f"{name} has {len(values)} entries for {layers} layers")
        if not all(0 <= value < math.inf for value in values):
            raise UserError(f"{name} is {list(values)}; expected 0 or more of each layer")
        if name == "neck_blocks" and max(values) > 1:
            raise UserError(f"neck_blocks is {list(values)}; expected 1, or 0 for no block")


def _check_stage2(c: HybridSettings) -> None:
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


def _check_queries(c: HybridSettings) -> None:
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


def _check_denoising(c: HybridSettings) -> None:
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
