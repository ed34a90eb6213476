"""Where each attention layout keeps head h, and how its weights remove that head exactly.

A head is removed when the module's output is what it would be with that head's own output set to
zero. Zeroing queries and keys does not do that (it makes the head attend evenly), and zeroing the
value weights alone leaves the value bias.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ablate_kit.ablations.ablation import Blocks, Edit
from ablate_kit.ablations.select import select
from ablate_kit.errors import UserError, did_you_mean
from detector.network import legacy

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


@dataclass(frozen=True)
class Layout:
    """Parameter names that make a module an attention of some kind."""

    name: str
    required: tuple[str, ...]
    output: tuple[str, ...]  # names that its output projection may have; heads own its columns
    value: str | None = None  # name of a projection to values alone; heads own its rows


LAYOUTS = (
    Layout("packed", ("in_proj_weight",), ("out_proj.weight",)),
    Layout(
        "separate",
        ("q_proj.weight", "k_proj.weight", "v_proj.weight"),
        ("o_proj.weight", "out_proj.weight"),
        "v_proj",
    ),
    Layout(  # Conditional DETR and DAB-DETR, as MMDetection names them
        "conditional",
        ("qcontent_proj.weight", "kcontent_proj.weight", "v_proj.weight"),
        ("out_proj.weight",),
        "v_proj",
    ),
    Layout("fused", ("qkv.weight",), ("proj.weight",)),
    Layout(
        "deformable",
        ("sampling_offsets.weight", "attention_weights.weight"),
        ("output_proj.weight",),
        "value_proj",
    ),
)


@dataclass(frozen=True)
class Attention:
    """One attention module of a checkpoint."""

    prefix: str  # of its tensors' names
    layout: Layout
    tensors: Mapping[str, TensorLike]  # by the name after the prefix
    heads: int | None  # None: nothing tells
    clamped: bool = False  # whether sampling points off the map are moved onto its edge

    def name_of(self, tensor: str) -> str:
        return f"{self.prefix}.{tensor}" if self.prefix else tensor

    def head_count(self) -> int:
        if self.heads is None:
            raise UserError(f"cannot tell how many heads {self.prefix} has; give --num-heads")
        return self.heads

    @property
    def off_map(self) -> float:
        """A sampling offset that leads off every map, in the type of the module's offsets."""
        dtype = str(self.tensors["sampling_offsets.weight"].dtype).removeprefix("torch.")
        return OFF_MAP_HALF if dtype == "float16" else OFF_MAP

    @property
    def samples_without_projection(self) -> bool:
        """Whether what is sampled from the map goes into the stream as it is."""
        projections = (f"{self.layout.value}.weight", *self.layout.output)
        bias = "sampling_offsets.bias" in self.tensors
        return bias and not any(name in self.tensors for name in projections)

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
        output = next((name for name in self.layout.output if name in self.tensors), None)
        if output:
            return (self._blocks(output, 1, chosen),)
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


def attentions(
    tensors: Mapping[str, TensorLike],
    config: Mapping[str, Any] | None = None,
    heads: int | None = None,
) -> list[Attention]:
    """All attention modules among these tensors, in their order.

    Args:
        tensors: by name, of a checkpoint or a live model.
        config: the model's own, which usually tells the number of heads.
        heads: the number of heads of every module, whatever the config says.
    """
    is_legacy = legacy.is_legacy(tensors)
    found = []
    for prefix, layout in _prefixes(tensors):
        start = f"{prefix}." if prefix else ""
        own = {
            name.removeprefix(start): tensor
            for name, tensor in tensors.items()
            if name.startswith(start)
        }
        count = (
            heads
            or _heads_of_table(own)
            or _heads_of_config(prefix, config or {})
            or _heads_of_openmmlab(prefix, layout, config or {})
        )
        if count is None and is_legacy:
            count = legacy.HEADS
        clamped = (config or {}).get("decoder_method") == "discrete"
        found.append(Attention(prefix, layout, own, count, clamped))
    return found


def select_attentions(
    pattern: str,
    tensors: Mapping[str, TensorLike],
    where: str,
    *,
    config: Mapping[str, Any] | None = None,
    heads: int | None = None,
    layers: Collection[int] | None = None,
) -> list[Attention]:
    """The attention modules that hold any of the tensors that a pattern names.

    Raises ``UserError`` where none does.
    """
    found = {one.prefix: one for one in attentions(tensors, config, heads)}
    names = select(pattern, tensors, where, layers)
    chosen = {
        prefix: found[prefix] for name in names for prefix in _owners(name) if prefix in found
    }
    if not chosen:
        listed = ", ".join(list(found)[:4]) + (", ..." if len(found) > 4 else "")
        near = did_you_mean(pattern, found) or (
            f"; attention modules are {listed}" if found else ""
        )
        raise UserError(f'"{names[0]}" in {where} is not part of an attention module{near}')
    return list(chosen.values())


def _owners(name: str) -> Iterator[str]:
    """The prefixes of all modules that a tensor is in."""
    levels = name.split(".")
    return (".".join(levels[:end]) for end in range(len(levels)))


def _prefixes(tensors: Mapping[str, TensorLike]) -> Iterator[tuple[str, Layout]]:
    for name in tensors:
        for layout in LAYOUTS:
            first, *others = layout.required
            if name != first and not name.endswith(f".{first}"):
                continue
            start = name.removesuffix(first)
            if all(start + other in tensors for other in others):
                yield start.removesuffix("."), layout


def _heads_of_table(tensors: Mapping[str, TensorLike]) -> int | None:
    """From a relative position bias, which has a row per head."""
    for name in ("relative_position_bias", "rpb"):
        if name in tensors:
            return tensors[name].shape[0]
    if "relative_position_bias_table" in tensors:  # Swin's: a column per head
        return tensors["relative_position_bias_table"].shape[1]
    return None


def _heads_of_config(prefix: str, config: Mapping[str, Any]) -> int | None:
    parts = [part for part in ("decoder", "encoder") if part in prefix.split(".")]
    keys = [f"{part}_attention_heads" for part in parts[:1]]
    for key in (*keys, "num_attention_heads", "num_heads", "heads", "nheads"):
        value = config.get(key)
        if type(value) is int and value > 0:
            return value
    return None


def _heads_of_openmmlab(prefix: str, layout: Layout, config: Mapping[str, Any]) -> int | None:
    """From MMDetection's ``decoder.layer_cfg.cross_attn_cfg``, for ``decoder.layers.0.cross_attn``.

    Its configurations leave out the heads of deformable attention, of which there are 8 then:
    ``num_heads`` of mmcv's MultiScaleDeformableAttention.
    """
    match prefix.removesuffix(".attn").split("."):
        case [("encoder" | "decoder") as part, "layers", _, name]:
            value: Any = config
            for key in (part, "layer_cfg"):
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, Mapping):
                # Without settings of its own, an attention has those of MMDetection's layer.
                own = value.get(f"{name}_cfg", {"num_heads": 8})
                default = 8 if layout.name == "deformable" else None
                heads = own.get("num_heads", default) if isinstance(own, Mapping) else None
                return heads if type(heads) is int and heads > 0 else None
    return None
