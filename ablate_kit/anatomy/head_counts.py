"""How many heads an attention module has, by all that tells: its tensors, and the configuration.

A configuration tells of several networks. What it says of one counts for the modules of that one: a
backbone is described by ``backbone_config`` and never by the detector's own number of heads.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    from torch import nn

GENERIC = ("num_attention_heads", "num_heads", "heads", "nheads", "n_heads", "nhead", "n_head")
_BACKBONES = ("backbone", "text_backbone")
# What OmDet-Turbo calls what others call a backbone and a text backbone.
_CALLED = {"vision_backbone": "backbone", "language_backbone": "text_backbone"}
# Of Grounding DINO; the first is no part of its text backbone.
_HALVED = ("text_enhancer_layer", "fusion_layer")
_CROSS = ("cross_attn", "encoder_attn")
# Where a stage's number stands in the names of hierarchical backbones.
_STAGE = re.compile(r"(?:^|\.)(?:(\d+)\.blocks?\.\d+|block\.(\d+)\.\d+|stages\.(\d+))(?=\.|$)")
# Attributes that a live attention module may have.
_ATTRIBUTES = (*GENERIC, "attention_heads")


class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def of_tensors(tensors: Mapping[str, Shaped]) -> dict[str, int]:
    """By the name of a tensor that has a row or a column per head, their number."""
    found = {}
    for name, tensor in tensors.items():
        own = name.rpartition(".")[2]
        match own, tuple(tensor.shape):
            case _, (_, heads) if own.startswith("rel") and own.endswith("bias_table"):
                found[name] = heads  # relative_position_bias_table of Swin, BEiT
            case "relative_position_bias" | "rpb", (heads, _, _):
                found[name] = heads
            case "logit_scale", (heads, 1, 1):  # Swin v2
                found[name] = heads
    return found


def of_config(prefix: str, layout: str, config: Mapping[str, Any]) -> dict[str, int]:
    """What the configuration says of the module at ``prefix``, by where it says so; at most one."""
    levels = [_CALLED.get(level, level) for level in prefix.split(".")]
    if own := _of_shrunk(prefix, levels, config):
        return own
    count = config.get("encoder_attention_heads")
    if any(level in _HALVED for level in levels) and _is_count(count):
        return {"half of encoder_attention_heads": count // 2}
    if found := _of_openmmlab(prefix, layout, config):
        return found
    section = _section(levels, config)
    if section:
        return _listed(section, config[section], prefix)
    if any(level in _BACKBONES for level in levels):
        return {}
    return next(({key: config[key]} for key in _keys(levels) if _is_count(config.get(key))), {})


def of_live(module: "nn.Module", names: Iterable[str]) -> dict[str, int]:
    """What the modules that have these tensors of a live model say, by their classes."""
    found = {}
    for name in names:
        levels = name.split(".")[:-1]
        for end in (len(levels), len(levels) - 1):  # it, or what it is a projection of
            one = module.get_submodule(".".join(levels[: max(end, 0)]))
            count = of_module(one)
            if count:
                found[type(one).__name__] = count
                break
    return found


def of_saved(modules: Iterable[Any]) -> dict[str, int]:
    """What modules that the file holds whole say, by their classes; ``modules`` are those around
    one tensor, innermost first: it, or what it is a projection of."""
    for one in itertools.islice(modules, 2):
        count = of_module(one)
        if count:
            return {one.class_name: count}
    return {}


def of_module(module: object) -> int | None:
    """What a live attention module says of itself."""
    for name in _ATTRIBUTES:
        count = getattr(module, name, None)
        if _is_count(count):
            return count
    size, output = getattr(module, "head_dim", None), _output(module)
    return output // size if _is_count(size) and output and output % size == 0 else None


def _output(module: object) -> int | None:
    for name in ("o_proj", "out_proj", "wo"):
        width = getattr(getattr(module, name, None), "in_features", None)
        if isinstance(width, int):
            return width
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value > 0


def _section(levels: list[str], config: Mapping[str, Any]) -> str | None:
    """The key under which the network that the module is part of is described.

    That is ``backbone_config`` for ``model.backbone.model.encoder.layers.0.attention``; encoder and
    decoder have no such section but in MMDetection, which is another matter.
    """
    for key, value in config.items():
        name = key.removesuffix("_config")
        if not isinstance(value, Mapping) or name in ("encoder", "decoder"):
            continue
        if any(level == name or level.startswith(f"{name}_") for level in levels):
            return key
    return None


def _listed(section: str, config: Mapping[str, Any], prefix: str) -> dict[str, int]:
    for key in GENERIC:
        value = config.get(key)
        if _is_count(value):
            return {f"{section}.{key}": value}
        if isinstance(value, list | tuple) and value and all(map(_is_count, value)):
            match = _STAGE.search(prefix)
            stage = int(next(filter(None, match.groups()))) if match else len(value)
            if len(set(value)) == 1 or stage < len(value):
                return {f"{section}.{key}": value[0] if len(set(value)) == 1 else value[stage]}
    return {}


def _keys(levels: list[str]) -> Iterator[str]:
    """The keys that may tell, the most special first."""
    part = next((one for one in ("decoder", "encoder") if one in levels), None)
    cross = any(level in _CROSS for level in levels)
    if part:
        yield f"{part}_{'cross' if cross else 'self'}_attention_heads"  # LW-DETR, RF-DETR
        yield f"{part}_attention_heads"
        yield f"{part}_num_heads"  # OmDet-Turbo
    if part == "decoder":
        yield "ca_nheads" if cross else "sa_nheads"  # ... as their own repositories call them
    yield from GENERIC


def _of_shrunk(prefix: str, levels: list[str], config: Mapping[str, Any]) -> dict[str, int]:
    """Of one layer, where layers have numbers of heads of their own, as ``ablate shrink`` writes:
    the hybrid detector's in a list, those of a folder with code by the modules' names."""
    shrunk = config.get("shrunk")
    heads = shrunk.get("heads") if isinstance(shrunk, Mapping) else None
    if isinstance(heads, Mapping) and _is_count(heads.get(prefix)):
        return {"shrunk.heads": heads[prefix]}
    match levels:
        case [("encoder" | "decoder") as part, "layers", number, name] if number.isdecimal():
            names = {"self_attn": "decoder_self_heads", "cross_attn": "decoder_cross_heads"}
            key = "encoder_heads" if part == "encoder" else names.get(name, "")
            value = config.get(key)
            if isinstance(value, list | tuple) and int(number) < len(value):
                return {key: value[int(number)]} if _is_count(value[int(number)]) else {}
    return {}


def _of_openmmlab(prefix: str, layout: str, config: Mapping[str, Any]) -> dict[str, int]:
    """From MMDetection's ``decoder.layer_cfg.cross_attn_cfg``, for ``decoder.layers.0.cross_attn``;
    in version 2 and in Co-DETR, from ``decoder.transformerlayers.attn_cfgs``, for
    ``decoder.layers.0.attentions.1``.

    Its configurations leave out the heads of deformable attention, of which there are 8 then:
    ``num_heads`` of mmcv's MultiScaleDeformableAttention.
    """
    own, place = None, ""
    match prefix.removesuffix(".attn").split("."):
        case [("encoder" | "decoder") as part, "layers", _, name]:
            place = f"{part}.layer_cfg"
            if isinstance(value := _at(place, config), Mapping):
                # Without settings of its own, an attention has those of MMDetection's layer.
                own = value.get(f"{name}_cfg", {"num_heads": 8})
            place = f"{place}.{name}_cfg"
        case [*parts, "layers", _, "attentions", number] if number in ("0", "1"):
            place = ".".join([*parts, "transformerlayers", "attn_cfgs"])
            own = _at(place, config)
            if isinstance(own, list | tuple):
                own = own[int(number)] if int(number) < len(own) else None
    default = 8 if layout == "deformable" else None
    heads = own.get("num_heads", default) if isinstance(own, Mapping) else None
    return {place: heads} if _is_count(heads) else {}


def _at(place: str, config: Mapping[str, Any]) -> Any:
    value: Any = config
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
