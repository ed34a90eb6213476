"""Branches of residual layers, skipped: the layer hands on what came in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation, Edit
from ablate_kit.ablations.attention import LAYOUTS, TensorLike, attentions
from ablate_kit.ablations.rule import Patterns, Rule, Source
from ablate_kit.errors import UserError
from detector.network import legacy

_ATTENTIONS = ("self_attn", "attn", "cross_attn")  # of the hybrid detector's layers, in order
_FEED_FORWARDS = ("ffn", "mlp")  # the last branch of a layer
_LAST = "fc2.weight"  # the last layer of a feed-forward branch


def skips(modules: Iterable[str], tensors: Mapping[str, TensorLike]) -> list[Ablation]:
    """One ablation per branch, after which it adds nothing to the stream.

    Of the hybrid detector's layers the branch's layer scale becomes zero: its deformable attention
    returns its query too, which zeroing the output projection would leave. Elsewhere the weight and
    bias of the branch's last projection become zero. In post-norm layers the norm after the sum
    still runs.

    Raises ``UserError`` for a module of which it is not known that its output is added to its
    input.
    """
    if legacy.is_legacy(tensors):
        raise UserError(
            "branches of a notebook's checkpoint cannot be skipped under its names; "
            "convert it with ablate convert first"
        )
    return [
        Ablation(f"{module}-skip", "skip", tuple(Edit(name) for name in _last(module, tensors)))
        for module in modules
    ]


def _last(module: str, tensors: Mapping[str, TensorLike]) -> list[str]:
    """The tensors that the branch's output is a multiple of."""
    layer, _, part = module.rpartition(".")
    scales = [name for i in range(1, 4) if (name := f"{layer}.scale{i}.weight") in tensors]
    if scales:
        if part in _FEED_FORWARDS:
            return scales[-1:]
        if part in _ATTENTIONS:
            return [scales[1 if part == "cross_attn" else 0]]
        raise UserError(
            f"{module} is not a residual branch; of its layer, {' and '.join(_ATTENTIONS)} or "
            f"{' and '.join(_FEED_FORWARDS)} can be skipped"
        )
    if any(name.startswith(f"{layer}.gateway.") for name in tensors) and part == "encoder_attn":
        raise UserError(f"{module} cannot be skipped: a gate joins its output, not a sum")
    own = {name for name in tensors if name.startswith(f"{module}.")}
    outputs = {name for layout in LAYOUTS for name in layout.output}
    found = attentions({name: tensors[name] for name in tensors if name in own}, heads=1)
    names = outputs if [one.prefix for one in found] == [module] else {_LAST}
    for name in sorted(names):
        if f"{module}.{name}" in own:
            bias = f"{module}.{name.removesuffix('weight')}bias"
            return [f"{module}.{name}", *([bias] if bias in own else [])]
    raise UserError(
        f"{module} cannot be skipped: it has no output projection that is known "
        f"({', '.join(sorted({*outputs, _LAST}))})"
    )


@dataclass(frozen=True, kw_only=True)
class Skip(Rule):
    """Each residual branch that a pattern names, one by one: it adds nothing."""

    kind: Literal["skip"] = "skip"
    patterns: Patterns

    def make(self, source: Source) -> list[Ablation]:
        return skips(source.modules(self.patterns), source.checkpoint.tensors)
