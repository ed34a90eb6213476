"""Branches of residual layers, skipped: they add nothing to what came in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, TensorLike, attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Patterns, listed
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.anatomy.feed_forwards import feed_forwards
from ablate_kit.anatomy.schemes import scheme_of
from ablate_kit.errors import UserError


def skips(
    modules: Iterable[str], tensors: Mapping[str, TensorLike], anatomy: Anatomy = USUAL
) -> list[Ablation]:
    """One ablation per branch, after which it adds nothing to the stream.

    Of the hybrid detector's layers the branch's layer scale becomes zero: its deformable attention
    returns its query too, which zeroing the output projection would leave. Elsewhere an attention's
    output projection becomes zero, or what ``attention`` says of one without; of a feed-forward
    branch the layer that leads back to the stream's width; of Swin V2, where a branch ends in a
    norm, that norm's bias, too. In post-norm layers the norm after the sum still runs.

    Raises ``UserError`` for a module of which it is not known that its output is added to its
    input.
    """
    scheme = scheme_of(tensors)
    if scheme:
        raise UserError(
            f"branches of {scheme.what} cannot be skipped under its names; "
            "convert it with ablate convert first"
        )
    known = attentions(tensors, heads=1, anatomy=anatomy)
    return [
        Ablation(
            f"{module}-skip",
            "skip",
            _silenced(module, tensors, known, anatomy),
            factors=of_module(module),
        )
        for module in modules
    ]


def _silenced(
    module: str, tensors: Mapping[str, TensorLike], known: Iterable[Attention], anatomy: Anatomy
) -> tuple[Edit, ...]:
    """The edits after which the branch's output is zero."""
    layer, _, part = module.rpartition(".")
    scales = [name for i in range(1, 4) if (name := f"{layer}.scale{i}.weight") in tensors]
    if scales:
        return (Edit(_scale(module, part, scales, anatomy)),)
    if any(name.startswith(f"{layer}.gateway.") for name in tensors) and part == "encoder_attn":
        raise UserError(f"{module} cannot be skipped: a gate joins its output, not a sum")
    own = {name: tensors[name] for name in tensors if name.startswith(f"{module}.")}
    found = [one for one in known if f"{one.prefix}.".startswith(f"{module}.")]
    if len(found) == 1 and all(name.startswith(f"{found[0].prefix}.") for name in own):
        return (*_without_attention(found[0]), *_last_norm(module, tensors, first=True))
    last = None if found else _leading_back(module, own, tensors, anatomy)
    if last is None:
        raise UserError(
            f"{module} cannot be skipped: neither is it an attention, nor is it known which of its "
            "layers leads back to the stream"
        )
    bias = f"{last.removesuffix('weight')}bias"
    norm = _last_norm(module, tensors, first=False)
    return (Edit(last), *([Edit(bias)] if bias in tensors else []), *norm)


def _last_norm(module: str, tensors: Mapping[str, TensorLike], *, first: bool) -> Iterator[Edit]:
    """The bias of the norm that ends a branch in layers whose attention has a scale for each head's
    cosines, as Swin V2 is told from Swin: nothing comes out of a norm of nothing but its bias."""
    levels = module.split(".")
    for layer in (".".join(levels[:end]) for end in range(len(levels) - 1, 0, -1)):
        scales = [name for name in tensors if name.startswith(f"{layer}.")]
        scales = [name for name in scales if name.endswith(".logit_scale")]
        if any(len(tensors[name].shape) == 3 for name in scales):
            norms = ("layernorm_before", "norm1") if first else ("layernorm_after", "norm2")
            names = (f"{layer}.{one}.bias" for one in norms)
            yield from (Edit(name) for name in names if name in tensors)
            return


def _scale(module: str, part: str, scales: list[str], anatomy: Anatomy) -> str:
    if part in anatomy.feed_forwards:
        return scales[-1]
    if part in anatomy.scaled_attentions:
        return scales[1 if part == "cross_attn" else 0]
    raise UserError(
        f"{module} is not a residual branch; of its layer, "
        f"{' and '.join(anatomy.scaled_attentions)} or {' and '.join(anatomy.feed_forwards)} "
        "can be skipped"
    )


def _without_attention(attention: Attention) -> tuple[Edit, ...]:
    if not attention.outputs:
        return attention.remove([0])  # of one head, which is all of it
    names = list(attention.outputs)
    for output in attention.outputs:
        module = output.removesuffix(".weight")
        names.append(f"{module}.bias")
        if module.endswith(".0"):  # and what comes after it, such as a norm
            after = module.removesuffix("0")
            names += [n for n in attention.tensors if n.startswith(after) and n not in names]
    return tuple(
        Edit(attention.name_of(name))
        for name in names
        if name in attention.tensors and name.rpartition(".")[2] in ("weight", "bias")
    )


def _leading_back(
    module: str, own: Mapping[str, TensorLike], tensors: Mapping[str, TensorLike], anatomy: Anatomy
) -> str | None:
    """The weight of a feed-forward branch's last layer.

    All other layers lead from the stream's width to the width that the last one takes, or to twice
    that where half of it is a gate.
    """
    layers = {
        name: (tensor.shape[0], tensor.shape[1])
        for name, tensor in own.items()
        if name.endswith("weight") and len(tensor.shape) >= 2 and set(tensor.shape[2:]) <= {1}
    }
    if len(layers) == 1 and (known := {one.last for one in feed_forwards(tensors)} & set(layers)):
        # By itself, such as ``output.dense`` in a module of its own.
        return known.pop()
    if list(own) and set(own) <= {f"{module}.weight", f"{module}.bias"}:
        # A layer by itself: the last one if another of its owner leads to it.
        owner = module.rpartition(".")[0]
        beside = [tensors[name].shape for name in tensors if _is_layer(name, owner)]
        found = [name for name, (out, width) in layers.items() if (width, out) in beside]
        return found[0] if found and _named_last(found[0], anatomy) else None
    found = [
        name
        for name, (out, width) in layers.items()
        if len(layers) > 1
        and all(
            (wide in (width, 2 * width)) and into == out
            for other, (wide, into) in layers.items()
            if other != name
        )
    ]
    if len(found) == 1:
        return found[0]
    last = {one.last for one in feed_forwards(own)}
    return next((name for name in found if name in last or _named_last(name, anatomy)), None)


def _is_layer(name: str, owner: str) -> bool:
    rest = name.removeprefix(f"{owner}.")
    return name.startswith(f"{owner}.") and rest.endswith(".weight") and rest.count(".") == 1


def _named_last(name: str, anatomy: Anatomy) -> bool:
    return any(name.endswith(f"{last}.weight") for last in anatomy.last_layers)


@dataclass(frozen=True, kw_only=True)
class Skip(Kind):
    """Each residual branch that a pattern names, one by one: it adds nothing."""

    kind: Literal["skip"] = "skip"
    pattern: Patterns
    together: bool = False  # one variant without all of them
    name: str | None = None  # of that one

    def make(self, source: KindContext) -> list[Ablation]:
        tensors, anatomy = source.checkpoint.tensors, source.anatomy
        modules = source.modules(self.pattern)
        made = skips(modules, tensors, anatomy)
        if not self.together:
            if self.name:
                raise UserError("name goes with together: true; each branch has its own")
            return made
        name = self.name or f"{file_name('+'.join(listed(self.pattern)))}-skip"
        edits = tuple(edit for one in made for edit in one.edits)
        factors: Factors = {"target": name, "count": len(made)}
        return [Ablation(name, "skip", edits, factors=factors)]
