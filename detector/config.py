"""The hybrid detector, as a value that a network can be built from, and named ones."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from detector.config_rules import check_config
from detector.errors import UserError, did_you_mean
from detector.settings import HybridSettings


@dataclass(frozen=True)
class HybridConfig(HybridSettings):
    """Settings that go together.

    Raises ``UserError`` for values and combinations that no network can be built from.
    """

    def __post_init__(self) -> None:
        for field, kind in get_type_hints(HybridConfig).items():
            object.__setattr__(self, field, _checked(field, getattr(self, field), kind))
        check_config(self)

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
        spoken = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise UserError(f"{name} is {value!r}; expected {spoken}")
    return value


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
