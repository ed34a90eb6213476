"""Attention heads, taken out with all the rows and columns that only they use."""

from collections.abc import Iterable, Mapping, Sequence

from ablate_kit.ablations.attention import Attention
from ablate_kit.errors import UserError
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedHeads
from ablate_kit.shrinking.zeroed import Zeroed

# Tensors that have something of each head, by the axis it is on.
PER_HEAD = {
    "relative_position_bias": 0,
    "rpb": 0,
    "logit_scale": 0,
    "relative_position_bias_table": 1,
}
# Layouts whose heads stay, and why.
_WHOLE = {
    "conditional": "in conditional attention a head's queries and keys are put together of two "
    "projections",
    "unpacked": "queries, keys and values are of other widths, which no setting makes",
    "both ways": "all layers that fuse an image with a text are built with as many heads",
}


def take_heads(reduction: Reduction, attentions: Iterable[Attention]) -> None:
    """Takes out every head whose output plays no part.

    One head stays of a module that would have none, with its zeros. Raises ``UserError`` for a
    layout of which it is not known where its heads are.
    """
    zeroed = reduction.zeroed
    for module in attentions:
        names = [module.name_of(name) for name in module.tensors]
        if not any(name in zeroed.masks and name not in reduction.dropped for name in names):
            continue
        if module.heads is None or any(name in reduction.dropped for name in names):
            continue
        heads = sorted(_without_part(module, zeroed))
        heads = heads[1:] if len(heads) == module.heads else heads
        if heads:
            _take(reduction, module, heads)
            reduction.structures.append(RemovedHeads(module.prefix, tuple(heads), module.heads))
            reduction.heads[module.prefix] = module.heads - len(heads), names


def _without_part(module: Attention, zeroed: Zeroed) -> set[int]:
    of_outputs = [
        _whole_heads(zeroed.inputs(module.name_of(name)), name, 1, module)
        for name in module.outputs
    ]
    found = set.intersection(*of_outputs) if of_outputs else set()
    value = f"{module.layout.value}.weight"
    if module.layout.value and value in module.tensors:
        bias = f"{module.layout.value}.bias"
        held = module.name_of(bias) if bias in module.tensors else None
        rows = zeroed.outputs(module.name_of(value), held)
        found = {*found, *_whole_heads(rows, value, 0, module)}
    return found


def _whole_heads(indices: set[int], tensor: str, axis: int, module: Attention) -> set[int]:
    count = module.head_count()
    width, rest = divmod(tuple(module.tensors[tensor].shape)[axis], count)
    if rest:
        return set()
    return {
        head
        for head in range(count)
        if all(i in indices for i in range(head * width, (head + 1) * width))
    }


def _take(reduction: Reduction, module: Attention, heads: Sequence[int]) -> None:
    known = _axes(module)
    for name, tensor in module.tensors.items():
        place = known.get(name)
        if place is None:
            continue
        axis, parts = place
        size = tuple(tensor.shape)[axis]
        width, rest = divmod(size, parts * module.head_count())
        if rest:
            raise UserError(
                f"{module.name_of(name)} has {size} {('rows', 'columns')[axis]}, which cannot be "
                f"divided among {module.head_count()} heads"
            )
        indices = [
            part * (size // parts) + head * width + i
            for part in range(parts)
            for head in heads
            for i in range(width)
        ]
        reduction.take(module.name_of(name), axis, indices)


def _axes(module: Attention) -> Mapping[str, tuple[int, int]]:
    """For each tensor of the module that heads own parts of: on which axis, and in how many
    stretches that hold all heads one after the other."""
    layout = module.layout
    if layout.value and module.outputs:
        given, taken = (
            module.tensors[name].shape[axis]
            for name, axis in ((f"{layout.value}.weight", 0), (module.outputs[0], 1))
        )
        if given != taken:
            raise UserError(
                f"heads of {module.prefix} cannot be taken out: they share keys and values"
            )
    found: dict[str, tuple[int, int]] = dict.fromkeys(layout.output, (1, 1))
    for name in module.tensors:
        if name.rpartition(".")[2] in PER_HEAD:
            found[name] = PER_HEAD[name.rpartition(".")[2]], 1
    stretches = {"packed": (3,), "fused": (3,), "half fused": (1, 2)}.get(layout.name, ())
    for weight, count in zip(layout.required, stretches, strict=False):
        found |= {weight: (0, count), f"{weight.removesuffix('weight')}bias": (0, count)}
    if stretches:
        return found
    if layout.name == "separate":
        rows = layout.required[:3]
    elif layout.name == "deformable":
        if f"{layout.value}.weight" not in module.tensors:
            raise UserError(
                f"heads of {module.prefix} cannot be taken out: it samples from the map without a "
                "projection, and each head owns channels of the map"
            )
        rows = (*layout.required, f"{layout.value}.weight")
    else:
        reason = _WHOLE[layout.name]
        raise UserError(f"heads of {module.prefix} cannot be taken out: {reason}")
    names = [name.removesuffix(".weight") for name in rows]
    return found | {f"{name}.{end}": (0, 1) for name in names for end in ("weight", "bias")}
