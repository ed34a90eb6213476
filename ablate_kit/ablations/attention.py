"""Where each attention layout keeps head h, and how its weights remove that head exactly.

A head is removed when the module's output is what it would be with that head's own output set to
zero. Zeroing queries and keys does not do that (it makes the head attend evenly), and zeroing the
value weights alone leaves the value bias.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.name_patterns import select
from ablate_kit.anatomy import head_counts
from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.anatomy.layouts import Layout, attention_modules, full_name, tensors_of
from ablate_kit.anatomy.projections import by_projections
from ablate_kit.anatomy.schemes import scheme_of
from ablate_kit.anatomy.weight_norm import no_heads_in, normalized
from ablate_kit.checkpoints.quantized import not_cut
from ablate_kit.errors import UserError, did_you_mean

OFF_MAP = 1e8
"""A sampling offset far outside of every map; where nothing is sampled, deformable attention reads
zeros. In D-FINE's variant offsets count in boxes: this one leaves the map even from a box of 1e-7
of the image's width."""

OFF_MAP_HALF = 6e4  # the same for float16, whose largest number is 65504


class TensorLike(Protocol):
    """A tensor, or what a checkpoint says of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> object: ...


GIVEN = "--num-heads"


@dataclass(frozen=True)
class Attention:
    """One attention module of a checkpoint."""

    prefix: str  # of its tensors' names
    layout: Layout
    tensors: Mapping[str, TensorLike]  # by the name after the prefix
    told: Mapping[str, int]  # how many heads it has, by what tells so
    clamped: bool = False  # whether sampling points off the map are moved onto its edge

    def name_of(self, tensor: str) -> str:
        return full_name(self.prefix, tensor)

    @property
    def heads(self) -> int | None:
        """Their number; None where nothing tells it, or one thing tells another than the next."""
        counts = set(self.told.values())
        return counts.pop() if len(counts) == 1 else None

    def head_count(self) -> int:
        if self.heads is None:
            sources = ", ".join(f"{count} by {source}" for source, count in self.told.items())
            if GIVEN in self.told:
                raise UserError(
                    f"{self.prefix} does not have the number of heads that is given: {sources}"
                )
            doubt = f" ({sources})" if sources else ""
            raise UserError(
                f"cannot tell how many heads {self.prefix} has{doubt}; give --num-heads, "
                "in a recipe num_heads"
            )
        # Before one thing is made of each: files and recipes tell any number.
        largest = max((size for one in self.tensors.values() for size in one.shape), default=0)
        if self.heads > largest:
            raise UserError(
                f"{self.prefix} cannot have {self.heads:,} heads (by {', '.join(self.told)}): no "
                f"side of its tensors is longer than {largest:,}"
            )
        return self.heads

    @property
    def outputs(self) -> tuple[str, ...]:
        """The weights of its output projections, by the names after the prefix: one of most, two
        of one that attends both ways, none where heads go into the stream as they are."""
        return tuple(name for name in self.layout.output if name in self.tensors)

    @property
    def off_map(self) -> float:
        """A sampling offset that leads off every map, in the type of the module's offsets."""
        dtype = str(self.tensors["sampling_offsets.weight"].dtype).removeprefix("torch.")
        return OFF_MAP_HALF if dtype == "float16" else OFF_MAP

    @property
    def samples_without_projection(self) -> bool:
        """Whether what is sampled from the map goes into the stream as it is."""
        projected = self.outputs or f"{self.layout.value}.weight" in self.tensors
        return "sampling_offsets.bias" in self.tensors and not projected

    def remove(self, heads: Iterable[int]) -> tuple[Edit, ...]:
        """The edits that remove these heads, and nothing else.

        Raises ``UserError`` where a head does not exist or no weights can remove one.
        """
        chosen = sorted(set(heads))
        count = self.head_count()
        for head in chosen:
            if not 0 <= head < count:
                raise UserError(
                    f"{self.prefix} has no head {head}; it has {count} heads, 0 to {count - 1}"
                )
        if self.outputs:
            return tuple(self._blocks(name, 1, chosen) for name in self.outputs)
        value = [f"{self.layout.value}.{name}" for name in ("weight", "bias")]
        if value[0] in self.tensors:
            return tuple(self._blocks(name, 0, chosen) for name in value if name in self.tensors)
        if self.samples_without_projection:
            if self.clamped:
                raise UserError(
                    f"no weights of {self.prefix} can remove a head: it moves points that are off "
                    'the map onto its edge (decoder_method "discrete")'
                )
            bias = self._blocks("sampling_offsets.bias", 0, chosen)
            return (
                self._blocks("sampling_offsets.weight", 0, chosen),
                Edit(bias.tensor, bias.region, self.off_map),
            )
        for name, direction in normalized(self.tensors).items():
            if name in (*self.layout.output, value[0]):
                raise no_heads_in(self.prefix, self.name_of(direction))
        raise UserError(
            f"no weights of {self.prefix} can remove a head exactly: it has no output projection "
            f"({' or '.join(self.layout.output)})"
        )

    def _blocks(self, tensor: str, axis: int, heads: Collection[int]) -> Edit:
        """The rows (axis 0) or columns (axis 1) that belong to these heads, set to zero."""
        count, shape = self.head_count(), tuple(self.tensors[tensor].shape)
        if shape[axis] % count:
            raise UserError(
                f"{self.name_of(tensor)} has {shape[axis]} {('rows', 'columns')[axis]}, which "
                f"cannot be divided among {count} heads"
            )
        width = shape[axis] // count
        ranges = tuple((head * width, (head + 1) * width) for head in heads)
        return Edit(self.name_of(tensor), Blocks(axis, ranges))


def without_heads(
    modules: Iterable[Attention], chosen: Collection[tuple[Attention, int]]
) -> tuple[Edit, ...]:
    """The edits that remove heads of several modules; the same in whatever order they are given."""
    edits: list[Edit] = []
    for module in modules:
        own = [head for owner, head in chosen if owner is module]
        edits.extend(module.remove(own) if own else ())
    return tuple(edits)


def attentions(
    tensors: Mapping[str, TensorLike],
    config: Mapping[str, Any] | None = None,
    heads: int | None = None,
    modules: Callable[[str], Sequence[Any]] | None = None,
    anatomy: Anatomy = USUAL,
) -> list[Attention]:
    """All attention modules among these tensors, in their order.

    Args:
        tensors: by name, of a checkpoint or a live model.
        config: the model's own, which usually tells the number of heads.
        heads: the number of heads of every module where nothing else tells one number.
        modules: those that a tensor of the checkpoint lies in, where it holds them whole: what
            they say of themselves comes before the config.
        anatomy: of the framework that the model is of.
    """
    config = config or {}
    scheme = scheme_of(tensors)
    found = []
    for prefix, layout in _modules(tensors, anatomy):
        own = tensors_of(prefix, layout, tensors)
        saved: dict[str, int] = {}
        if modules:
            for name in own:
                saved |= head_counts.of_saved(modules(full_name(prefix, name)))
        counts = head_counts.of_tensors(own)
        counts |= saved or anatomy.heads(prefix, layout.name, config)
        if heads:  # settles a dispute, and does not open one in silence
            counts = {GIVEN: heads} | (counts if len(set(counts.values())) == 1 else {})
        if not counts and scheme:
            counts = dict(scheme.heads)
        clamped = config.get("decoder_method") == "discrete"
        found.append(Attention(prefix, layout, own, counts, clamped))
    return found


def _modules(tensors: Mapping[str, TensorLike], anatomy: Anatomy) -> list[tuple[str, Layout]]:
    """By the names that are known, and by what projections of other names have in common."""
    known = list(attention_modules(tensors, anatomy.layouts))
    taken = {full_name(prefix, name) for prefix, layout in known for name in layout.required}
    for prefix, layout in by_projections(tensors):
        if taken.isdisjoint(full_name(prefix, name) for name in layout.required):
            known.append((prefix, layout))
    order = {name: i for i, name in enumerate(tensors)}
    return sorted(known, key=lambda one: order[full_name(one[0], one[1].required[0])])


def select_attentions(
    pattern: str,
    tensors: Mapping[str, TensorLike],
    where: str,
    *,
    config: Mapping[str, Any] | None = None,
    heads: int | None = None,
    layers: Collection[int] | None = None,
    modules: Callable[[str], Sequence[Any]] | None = None,
    anatomy: Anatomy = USUAL,
    unsupported: Mapping[str, str] | None = None,
    quantized: Mapping[str, str] | None = None,
) -> list[Attention]:
    """The attention modules that hold any of the tensors that a pattern names.

    Args:
        unsupported, quantized: tensors that are none to be cut, and why.

    Raises ``UserError`` where none does.
    """
    found = {one.prefix: one for one in attentions(tensors, config, heads, modules, anatomy)}
    names = select(pattern, tensors, where, layers, unsupported=unsupported)
    _refuse_normalized(names, tensors, anatomy, found)
    chosen = {
        prefix: found[prefix] for name in names for prefix in _owners(name) if prefix in found
    }
    if not chosen:
        for name, reason in (quantized or {}).items():
            if name in names:
                raise not_cut(name, reason)
        if not found:
            raise UserError(f'no attention module is known in {where}: "{pattern}" can name none')
        listed = ", ".join(list(found)[:4]) + (", ..." if len(found) > 4 else "")
        near = did_you_mean(pattern, found) or f"; attention modules are {listed}"
        raise UserError(f'"{names[0]}" in {where} is not part of an attention module{near}')
    for one in chosen.values():  # before anything that packed numbers hide, such as their columns
        for name in map(one.name_of, one.outputs):
            if quantized and name in quantized:
                raise not_cut(name, quantized[name])
    return list(chosen.values())


def _refuse_normalized(
    names: Iterable[str],
    tensors: Mapping[str, TensorLike],
    anatomy: Anatomy,
    known: Collection[str],
) -> None:
    """Raises ``UserError`` where a tensor is part of an attention module that would be known if its
    weights were not normalized."""
    directions = normalized(tensors)
    if not directions:
        return
    plain = {**tensors, **{name: tensors[one] for name, one in directions.items()}}
    hidden = {prefix: layout for prefix, layout in _modules(plain, anatomy) if prefix not in known}
    for prefix in (prefix for name in names for prefix in _owners(name) if prefix in hidden):
        required = (full_name(prefix, one) for one in hidden[prefix].required)
        raise no_heads_in(prefix, next(directions[one] for one in required if one in directions))


def _owners(name: str) -> Iterator[str]:
    """The prefixes of all modules that a tensor is in."""
    levels = name.split(".")
    return (".".join(levels[:end]) for end in range(len(levels)))
