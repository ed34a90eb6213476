"""Under which names attention modules keep their weights."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

BESIDE = "^"
"""Begins a name that is not under the module but beside it, in its layer."""


@dataclass(frozen=True)
class Layout:
    """Parameter names that make a module an attention of some kind."""

    name: str
    required: tuple[str, ...]
    output: tuple[str, ...]  # names that its output projections may have; heads own their columns
    value: str | None = None  # name of a projection to values alone; heads own its rows
    modules: tuple[str, ...] = ()  # the module's own name, where parameters do not tell
    beside: str = ""  # how projections of its own begin that are not in it but beside it


def _separate(query: str, key: str, value: str, output: tuple[str, ...]) -> Layout:
    return Layout(
        "separate", (f"{query}.weight", f"{key}.weight", f"{value}.weight"), output, value
    )


LAYOUTS = (
    Layout("packed", ("in_proj_weight",), ("out_proj.weight",)),
    Layout(  # nn.MultiheadAttention with keys or values of another width
        "unpacked", ("q_proj_weight", "k_proj_weight", "v_proj_weight"), ("out_proj.weight",)
    ),
    _separate("q_proj", "k_proj", "v_proj", ("o_proj.weight", "out_proj.weight")),
    # ViT, DINOv2, YOLOS, BEiT; with output.weight LW-DETR's backbone. The output projection, which
    # lies beside the others' module, tells that this one is not the whole layer, as in PVT v2.
    *(
        Layout(
            "separate",
            (*(f"attention.{role}.weight" for role in ("query", "key", "value")), output),
            (output,),
            "attention.value",
        )
        for output in ("output.dense.weight", "output.weight")
    ),
    # Swin, PVT, BERT
    _separate("self.query", "self.key", "self.value", ("output.dense.weight",)),
    Layout(  # Grounding DINO
        "separate",
        ("query.weight", "key.weight", "value.weight", "out_proj.weight"),
        ("out_proj.weight",),
        "value",
    ),
    # Grounding DINO's fusion: an image attends to a text and, by the same shares, the text to it.
    *(
        Layout("both ways", (f"{image}_proj.weight", f"{text}_proj.weight", *outputs), outputs)
        for image, text in (("vision", "text"), ("v", "l"))
        for outputs in [(f"out_{image}_proj.weight", f"out_{text}_proj.weight")]
    ),
    # Conditional DETR and DAB-DETR: as MMDetection names them, as Hugging Face does, and as the
    # original repositories do, which is also how Hugging Face saves the first.
    Layout(
        "conditional",
        ("qcontent_proj.weight", "kcontent_proj.weight", "v_proj.weight"),
        ("out_proj.weight",),
        "v_proj",
    ),
    Layout(
        "conditional",
        ("q_content_proj.weight", "k_content_proj.weight", "v_proj.weight"),
        ("o_proj.weight",),
        "v_proj",
    ),
    *(
        Layout(
            "conditional",
            (f"{name}.output_proj.weight", f"{name}_query_content_proj.weight"),
            (f"{name}.output_proj.weight",),
            f"{name}_value_proj",
        )
        for name in ("self_attn", "cross_attn")
    ),
    *(
        Layout(
            "conditional",
            ("out_proj.weight", f"^{start}_qcontent_proj.weight", f"^{start}_v_proj.weight"),
            ("out_proj.weight",),
            f"^{start}_v_proj",
            modules,
            f"{start}_",
        )
        for start, modules in (("sa", ("self_attn",)), ("ca", ("cross_attn", "encoder_attn")))
    ),
    Layout(
        "deformable",
        ("sampling_offsets.weight", "attention_weights.weight"),
        ("output_proj.weight",),
        "value_proj",
    ),
)


def is_beside(name: str, prefix: str, layout: Layout) -> bool:
    """Whether a tensor or module beside the attention module at ``prefix`` is its own."""
    layer = prefix.rpartition(".")[0]
    return bool(layout.beside) and name.startswith(f"{layer}.{layout.beside}")


def full_name(prefix: str, name: str) -> str:
    """A tensor's name in the checkpoint; ``name`` as layouts write it."""
    if name.startswith(BESIDE):
        prefix, name = prefix.rpartition(".")[0], name.removeprefix(BESIDE)
    return f"{prefix}.{name}" if prefix else name


def attention_modules(
    names: Collection[str], layouts: Sequence[Layout] = LAYOUTS
) -> Iterator[tuple[str, Layout]]:
    """The prefix and the layout of every attention module among a checkpoint's tensors."""
    for name in names:
        for layout in layouts:
            first, *others = layout.required
            if name != first and not name.endswith(f".{first}"):
                continue
            prefix = name.removesuffix(first).removesuffix(".")
            if layout.modules and prefix.rpartition(".")[2] not in layout.modules:
                continue
            if all(full_name(prefix, other) in names for other in others):
                yield prefix, layout


def tensors_of(prefix: str, layout: Layout, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of an attention module, by their names after its prefix or as layouts do."""
    start = f"{prefix}." if prefix else ""
    own = {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
    projection = [f"{layout.value}.weight", f"{layout.value}.bias"]
    for name in (*layout.required, *projection):
        if name.startswith(BESIDE) and full_name(prefix, name) in tensors:
            own[name] = tensors[full_name(prefix, name)]
    return own
