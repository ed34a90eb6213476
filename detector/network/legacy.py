"""Names of the thesis notebooks' checkpoints, beside the names here.

``_pairs`` spells the whole map out: one line per module, (name here, name there). It is a
bijection, so that a checkpoint goes both ways. A notebook checkpoint carries no config:
``infer_config`` reads it off the shapes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from detector.config import PRESETS, HybridConfig
from detector.errors import UserError, did_you_mean

GATE_FUSE_VARIANT = {"stage2": "gate", "stage2_deform_norm": False, "stage2_dropout": True}
DENOISING_ROWS = 100  # of the query tables, before those of the queries
HEADS = 10  # of encoder and decoder; fixed in the notebooks and visible in no shape

CHANNEL_ATTENTION = {"residual_logit": "residual_scale", "reduce": "fc1", "expand": "fc2"}
STAGE0 = {"conv": "conv3", "norm": "norm", "scale": "scale"}
STAGE1 = {"deform": "dcn.dcn", "norm": "post_norm", "scale": "scale"}
STAGE2 = {
    "skip_conv": "skip_proj.0",
    "skip_norm": "skip_proj.1",
    "deform": "dcn.dcn",
    "deform_norm": "post_norm",
    "fuse": "fusion",
    "norm": "ln",
}
GATE_FUSE = {
    "mix": "mix",
    "norm": "norm.norm",
    "refine_norm": "post_mix.0.norm",
    "refine1": "post_mix.1",
    "refine2": "post_mix.3",
    "refine_scale": "post_mix_ls",
    "kernel3": "dw3",
    "kernel5": "dw5",
    "kernel_gate.reduce": "fc.0",
    "kernel_gate.expand": "fc.2",
    "kernel_gate.log_temperature": "log_tau",
    "spatial_gate.depthwise": "spatial_gate.0",
    "spatial_gate.pointwise": "spatial_gate.1",
    "scale": "ls",
    "attention_logit": "dat_logit",
    "attention_log_temperature": "dat_log_tau",
    "deform_logit": "dc_res_logit",
}
PGI = {
    "lambda_logit": "_lambda_logit",
    "gate": "gate",
    "main": "main.0",
    "main_norm": "main.1",
    "aux_reduce": "aux.0",
    "aux_norm1": "aux.1",
    "aux_expand": "aux.3",
    "aux_norm2": "aux.4",
    "aux_adapter": "aux_adapter",
}
DOWN = {"down1": ("da", "norm_act.0"), "down2": ("db", "norm"), "down3": ("dc", "norm")}
RESIDUAL = {"conv": "conv.0", "norm": "conv.1.norm.norm", "scale": "ls"}
ENCODER_LAYER = {
    "norm1": "norm1",
    "self_attn": "self_attn",
    "scale1": "ls1",
    "norm2": "norm2",
    "scale2": "ls2",
    "ffn": "ffn",
}
DECODER_LAYER = ENCODER_LAYER | {
    "cross_attn": "cross_attn",
    "norm3": "norm3",
    "scale3": "ls3",
    "refine1": "ref_mlp.0",
    "refine2": "ref_mlp.2",
}
DENOISING = {
    "denoising.labels": "label_enc.weight",
    "denoising.box": "dn_box_proj",
    "denoising.box_logit": "dn_box_logit",
    "denoising.frequencies": "dn_box_pe.inv_freq",
    "queries.level_embed": "level_embed_seed",
    "queries.objectness": "query_obj_head",
    "queries.proposals.objectness": "prop_obj_head",
    "queries.proposals.box": "prop_box_head",
    "queries.proposals.content": "prop_content_proj",
    "queries.seeds.content": "seed_mlp",
    "queries.seeds.peak_logit": "seed_logit_obj",
    "queries.seeds.grid_logit": "seed_logit_grid",
}
PROJECTION = {"norm": "0", "fc1": "1", "fc2": "3"}


def denoising_variant(queries: int = 200, *, proposals: bool = True) -> dict[str, Any]:
    """The settings of the notebooks' denoising variant: how many of the queries are which.

    At most 70 % and all but 76 are proposals, at most 60 seeds (3 of 5 of them on peaks), and at
    least 16 of what proposals leave are learned.
    """
    proposed = min(queries, round(0.7 * queries), max(0, queries - 76)) if proposals else 0
    seeds = max(0, min(60, queries - proposed - 16))
    peaks = round(seeds * 0.30 / 0.50)
    return {
        "queries": queries,
        "proposal_queries": proposed,
        "peak_queries": peaks,
        "grid_queries": seeds - peaks,
        "query_objectness": True,
        "denoising": "thesis",
    }


def is_legacy(names: Iterable[str]) -> bool:
    """Whether these are tensor names of a notebook checkpoint."""
    return "backbone.st0.0.conv3.weight" in set(names)


def to_ours(
    names: Iterable[str], config: HybridConfig, *, keep_foreign: bool = False
) -> dict[str, str]:
    """The name here of every tensor of a notebook checkpoint.

    Raises ``UserError`` for a foreign one, unless these are to keep their names.
    """
    table = {theirs: ours for ours, theirs in _pairs(config)}
    return {name: _renamed(name, table, keep_foreign) for name in names}


def to_legacy(names: Iterable[str], config: HybridConfig) -> dict[str, str]:
    """The notebooks' name of every tensor of our checkpoint; ``UserError`` for a foreign one."""
    table = dict(_pairs(config))
    return {name: _renamed(name, table) for name in names}


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> HybridConfig:
    """The config of a notebook checkpoint, from its tensors' shapes.

    What no shape shows (image size, number of heads, drop rates) is the thesis' own.
    """
    try:
        classes, d_model = shapes["decoder.cls_head.weight"]
        layers = _count(shapes, "decoder.layers.{}.norm1.weight")
        weights = "decoder.layers.{}.cross_attn.attention_weights.weight"
        points = tuple(shapes[weights.format(i)][0] // (4 * HEADS) for i in range(layers))
        bias_heads, bias_side, _ = shapes["backbone.st3.0.dat1.stage.attns.0.rpb"]
        hidden = shapes["backbone.st3.0.dat1.stage.mlps.0.chunk.linear1.weight"][0]
        c3, c4, c5, c6 = (shapes[f"neck.p{level}_in.0.weight"][1] for level in (3, 4, 5, 6))
        return PRESETS["thesis"].replace(
            num_classes=classes - 1,
            norm="bn" if "backbone.st0.0.norm.running_mean" in shapes else "gn",
            layer_scale=1.0 if "backbone.st0.0.scale.weight" in shapes else None,
            widths=(c3, c4, c5, c6),
            depths=tuple(_count(shapes, f"backbone.st{k}.{{}}.") for k in range(4)),
            attention_depth=_count(shapes, "backbone.st3.0.dat1.stage.attns.{}.rpb"),
            attention_heads=bias_heads,
            attention_kernel=(bias_side + 1) // 2,
            mlp_ratio=hidden / c5,
            **(GATE_FUSE_VARIANT if "backbone.st2.0.gate.mix.weight" in shapes else {}),
            d_model=d_model,
            neck_repeats=_count(shapes, "neck.fuse3_bot.{}.log_tau"),
            heads=HEADS,
            encoder_layers=_count(shapes, "decoder.encoder.layers.{}.norm1.weight"),
            decoder_layers=layers,
            decoder_points=points,
            **_queries(shapes),
        )
    except KeyError as missing:
        raise UserError(
            f"not a complete checkpoint of the thesis notebooks: it has no tensor {missing}"
        ) from None


def _queries(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    rows = shapes["decoder.query_pos.weight"][0]
    if "decoder.label_enc.weight" not in shapes:
        return {"queries": rows}
    proposals = "decoder.prop_obj_head.weight" in shapes
    return denoising_variant(rows - DENOISING_ROWS, proposals=proposals)


def _pairs(c: HybridConfig) -> Iterator[tuple[str, str]]:
    """(our prefix, their prefix) of every module and bare parameter."""
    for i in (1, 2, 3):
        yield f"backbone.stem.conv{i}", f"backbone.stem.conv{i}"
    yield "backbone.stem.norm", "backbone.stem.norm.norm"
    for stage, inner in enumerate((STAGE0, STAGE1, STAGE2)):
        for i in range(c.depths[stage]):
            ours, theirs = f"backbone.stage{stage}.{i}", f"backbone.st{stage}.{i}"
            yield from _inside(ours, theirs, inner)
            if stage < 2:
                yield from _inside(f"{ours}.channel_attention", f"{theirs}.se", CHANNEL_ATTENTION)
            else:
                yield from _attention_stage(f"{ours}.attention", f"{theirs}.dat.stage", c)
                yield from _inside(f"{ours}.gate", f"{theirs}.gate", GATE_FUSE)
    for i in range(c.depths[3]):
        yield from _attention_block(f"backbone.stage3.{i}", f"backbone.st3.{i}", c)
    for i in (1, 2, 3):
        yield from _inside(f"backbone.pgi{i}", f"backbone.pgi_s{i}", PGI)
        yield f"backbone.dense_heads.{i - 1}", f"backbone.aux_head_s{i}"
    for name, (theirs, norm) in DOWN.items():
        inner = {"depthwise": "dw", "pointwise": "pw", "norm": norm}
        yield from _inside(f"backbone.{name}", f"backbone.{theirs}", inner)
    csi = {"weight": "weight", "align": "align", "norm": "norm.norm"}
    yield from _inside("backbone.csi", "backbone.csi_s1_s2", csi)

    for i in range(4):
        inner = {"conv": "0", "norm": "1.norm.norm"}
        yield from _inside(f"neck.inputs.{i}", f"neck.p{i + 3}_in", inner)
    for r in range(c.neck_repeats):
        ours = f"neck.repeats.{r}"
        for step in range(3):
            n = 3 * r + step
            yield from _inside(f"{ours}.top_blocks.{step}", f"neck.top_convs.{n}", RESIDUAL)
            yield f"{ours}.top_fuse.{step}", f"neck.fuse2_top.{n}"
        for step in range(4):
            n = 4 * r + step
            yield from _inside(f"{ours}.bottom_blocks.{step}", f"neck.bot_convs.{n}", RESIDUAL)
        fuse = (f"2_bot.{3 * r}", f"2_bot.{3 * r + 1}", f"3_bot.{r}", f"2_bot.{3 * r + 2}")
        for step, theirs in enumerate(fuse):
            yield f"{ours}.bottom_fuse.{step}", f"neck.fuse{theirs}"
    for i in range(3):
        for ours, theirs in (("blur", "up_dw"), ("edge", "edge_dw"), ("edge_scale", "edge_ls")):
            yield f"neck.upsample.{i}.{ours}", f"neck.{theirs}.{i}"
        yield f"neck.upsample.{i}.norm", f"neck.up_na.{i}.0"
        yield f"neck.keep.{i}", f"neck.keep_top.{i}"

    yield "level_embed", "decoder.level_embed"
    yield "queries.content", "decoder.query_feat.weight"
    yield "queries.position", "decoder.query_pos.weight"
    yield "queries.reference", "decoder.ref_init"
    for ours, theirs in DENOISING.items():
        if ours.endswith(".content"):
            yield from _inside(ours, f"decoder.{theirs}", PROJECTION)
        else:
            yield ours, f"decoder.{theirs}"
    for i in range(c.encoder_layers):
        yield from _inside(f"encoder.layers.{i}", f"decoder.encoder.layers.{i}", ENCODER_LAYER)
    for i in range(c.decoder_layers):
        yield from _inside(f"decoder.layers.{i}", f"decoder.layers.{i}", DECODER_LAYER)
    yield from _inside("heads", "decoder.head_prep", {"norm": "norm", "scale": "ls"})
    for kind, theirs in (("class_head", "cls_head"), ("box_head", "box_head")):
        yield f"heads.main.{kind}", f"decoder.{theirs}"
        for i in range(c.decoder_layers - 1):
            yield f"heads.aux.{i}.{kind}", f"decoder.aux_{theirs}s.{i}"


def _attention_block(ours: str, theirs: str, c: HybridConfig) -> Iterator[tuple[str, str]]:
    yield from _inside(ours, theirs, {"proj": "proj", "norm": "norm"})
    yield from _inside(f"{ours}.channel_attention", f"{theirs}.ca", CHANNEL_ATTENTION)
    for stage in (1, 2):
        yield from _attention_stage(f"{ours}.attention{stage}", f"{theirs}.dat{stage}.stage", c)


def _attention_stage(ours: str, theirs: str, c: HybridConfig) -> Iterator[tuple[str, str]]:
    for i in range(c.attention_depth):
        inner = {
            "norm1": f"layer_norms.{2 * i}.norm",
            "scale1": f"layer_scales.{2 * i}",
            "attn.qkv": f"attns.{i}.qkv",
            "attn.relative_position_bias": f"attns.{i}.rpb",
            "attn.proj": f"attns.{i}.proj",
            "norm2": f"layer_norms.{2 * i + 1}.norm",
            "scale2": f"layer_scales.{2 * i + 1}",
            "mlp.fc1": f"mlps.{i}.chunk.linear1",
            "mlp.fc2": f"mlps.{i}.chunk.linear2",
        }
        yield from _inside(f"{ours}.layers.{i}", theirs, inner)


def _inside(ours: str, theirs: str, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for here, there in names.items():
        yield f"{ours}.{here}", f"{theirs}.{there}"


def _renamed(name: str, table: Mapping[str, str], keep_foreign: bool = False) -> str:
    """``name`` with its longest prefix that the table knows replaced."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in table:
            return ".".join((table[prefix], *parts[end:]))
    if keep_foreign:
        return name
    raise UserError(f'unexpected tensor "{name}"{did_you_mean(name, table)}')


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """How many of pattern 0, 1, 2, ... begin a tensor's name."""
    count = 0
    while any(name.startswith(pattern.format(count)) for name in shapes):
        count += 1
    return count
