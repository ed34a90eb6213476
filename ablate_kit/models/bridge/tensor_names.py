"""Where each tensor of MMDetection's DETR and Deformable DETR goes in Hugging Face's.

In a pattern ``{layer}`` stands for a number, ``{layer+1}`` for one more than it, ``{p}`` for
``weight`` or ``bias``, and ``{norm}`` for what a batch norm holds.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ablate_kit.errors import UserError

PLACEHOLDER = re.compile(r"\{(\w+)(?:\+(\d+))?\}")
CHOICES = {"p": "weight|bias", "norm": "weight|bias|running_mean|running_var"}


@dataclass(frozen=True)
class NameRule:
    """Tensors ``source`` become ``targets``: one, or equal parts of the rows in this order.

    Of ``tied`` sources, which are one tensor in the model, the last is taken: it is what remains
    after loading.
    """

    source: str
    targets: tuple[str, ...]
    tied: bool = False


@dataclass(frozen=True)
class TensorOrigin:
    """Part number ``part`` of ``parts`` equal ones of the rows of a tensor."""

    source: str
    part: int = 0
    parts: int = 1

    def __str__(self) -> str:
        if self.parts == 1:
            return self.source
        return f"{self.source}, part {self.part + 1} of {self.parts}"


HF = "model.backbone.conv_encoder.model"
BLOCK = HF + ".encoder.stages.{stage}.layers.{block}"

BACKBONE = (
    NameRule("backbone.conv1.weight", (f"{HF}.embedder.embedder.convolution.weight",)),
    NameRule("backbone.bn1.{norm}", (f"{HF}.embedder.embedder.normalization.{{norm}}",)),
    NameRule("backbone.layer{stage+1}.{block}.conv{conv+1}.weight",
         (f"{BLOCK}.layer.{{conv}}.convolution.weight",)),
    NameRule("backbone.layer{stage+1}.{block}.bn{conv+1}.{norm}",
         (f"{BLOCK}.layer.{{conv}}.normalization.{{norm}}",)),
    NameRule("backbone.layer{stage+1}.{block}.downsample.0.weight",
         (f"{BLOCK}.shortcut.convolution.weight",)),
    NameRule("backbone.layer{stage+1}.{block}.downsample.1.{norm}",
         (f"{BLOCK}.shortcut.normalization.{{norm}}",)),
)  # fmt: skip

# Counters of training, and the colors' mean and deviation, which go to the image processor.
DROPPED = (
    "backbone.bn1.num_batches_tracked",
    "backbone.layer{stage}.{block}.bn{conv}.num_batches_tracked",
    "backbone.layer{stage}.{block}.downsample.1.num_batches_tracked",
    "data_preprocessor.mean",
    "data_preprocessor.std",
)


def _packed(source: str, target: str) -> tuple[NameRule, ...]:
    thirds = tuple(f"{target}.{name}_proj.{{p}}" for name in "qkv")
    return (
        NameRule(f"{source}.attn.in_proj_{{p}}", thirds),
        NameRule(f"{source}.attn.out_proj.{{p}}", (f"{target}.out_proj.{{p}}",)),
    )


def _deformable(source: str, target: str) -> tuple[NameRule, ...]:
    names = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    return tuple(NameRule(f"{source}.{name}.{{p}}", (f"{target}.{name}.{{p}}",)) for name in names)


def _layer(stack: str, norms: Iterable[str]) -> tuple[NameRule, ...]:
    """Feed-forward layers and norms of an encoder or decoder layer."""
    source, target = f"{stack}.layers.{{layer}}", f"model.{stack}.layers.{{layer}}"
    return (
        NameRule(f"{source}.ffn.layers.0.0.{{p}}", (f"{target}.fc1.{{p}}",)),
        NameRule(f"{source}.ffn.layers.1.{{p}}", (f"{target}.fc2.{{p}}",)),
        *(
            NameRule(f"{source}.norms.{i}.{{p}}", (f"{target}.{name}.{{p}}",))
            for i, name in enumerate(norms)
        ),
    )


LAYERS = (
    *_layer("encoder", ("self_attn_layer_norm", "final_layer_norm")),
    *_layer("decoder", ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")),
    *_packed("decoder.layers.{layer}.self_attn", "model.decoder.layers.{layer}.self_attn"),
    NameRule("query_embedding.weight", ("model.query_position_embeddings.weight",)),
)

DETR = (
    *BACKBONE,
    *LAYERS,
    *_packed("encoder.layers.{layer}.self_attn", "model.encoder.layers.{layer}.self_attn"),
    *_packed("decoder.layers.{layer}.cross_attn", "model.decoder.layers.{layer}.encoder_attn"),
    NameRule("neck.convs.0.conv.{p}", ("model.input_projection.{p}",)),
    NameRule("decoder.post_norm.{p}", ("model.decoder.layernorm.{p}",)),
    NameRule("bbox_head.fc_cls.{p}", ("class_labels_classifier.{p}",)),
    NameRule("bbox_head.reg_ffn.layers.0.0.{p}", ("bbox_predictor.layers.0.{p}",)),
    NameRule("bbox_head.reg_ffn.layers.1.{p}", ("bbox_predictor.layers.1.{p}",)),
    NameRule("bbox_head.fc_reg.{p}", ("bbox_predictor.layers.2.{p}",)),
)


def deformable_detr(levels: int, *, box_refine: bool, two_stage: bool) -> tuple[NameRule, ...]:
    """The rules for one of Deformable DETR's variants.

    Args:
        levels: of the backbone; the neck's further ones come after them.
    """
    classes = "model.decoder.class_embed" if two_stage else "class_embed"
    boxes = "model.decoder.bbox_embed" if box_refine else "bbox_embed"
    n = "{n}" if box_refine else "0"  # without refinement all layers share one head
    heads = (
        NameRule("bbox_head.cls_branches.{n}.{p}", (f"{classes}.{n}.{{p}}",), tied=not box_refine),
        *(
            NameRule(
                f"bbox_head.reg_branches.{{n}}.{2 * i}.{{p}}",
                (f"{boxes}.{n}.layers.{i}.{{p}}",),
                tied=not box_refine,
            )
            for i in range(3)
        ),
    )
    neck = tuple(
        rule
        for source, n in (("neck.convs.{n}", "{n}"), ("neck.extra_convs.{n}", f"{{n+{levels}}}"))
        for rule in (
            NameRule(f"{source}.conv.weight", (f"model.input_proj.{n}.0.weight",)),
            NameRule(f"{source}.gn.{{p}}", (f"model.input_proj.{n}.1.{{p}}",)),
        )
    )
    return (
        *BACKBONE,
        *LAYERS,
        *neck,
        *heads,
        *_deformable("encoder.layers.{layer}.self_attn", "model.encoder.layers.{layer}.self_attn"),
        *_deformable(
            "decoder.layers.{layer}.cross_attn", "model.decoder.layers.{layer}.encoder_attn"
        ),
        NameRule("level_embed", ("model.level_embed",)),
        NameRule("reference_points_fc.{p}", ("model.reference_points.{p}",)),
        NameRule("memory_trans_fc.{p}", ("model.enc_output.{p}",)),
        NameRule("memory_trans_norm.{p}", ("model.enc_output_norm.{p}",)),
        NameRule("pos_trans_fc.{p}", ("model.pos_trans.{p}",)),
        NameRule("pos_trans_norm.{p}", ("model.pos_trans_norm.{p}",)),
    )


def origins(names: Iterable[str], rules: Iterable[NameRule]) -> dict[str, TensorOrigin]:
    """For each tensor of the Hugging Face model, where it comes from.

    Raises ``UserError`` for a name that no rule places, and where two would go to one place.
    """
    compiled = [(_pattern(rule.source), rule) for rule in rules]
    found: dict[str, TensorOrigin] = {}
    for name in names:
        if is_dropped(name):
            continue
        placed = [(match, rule) for pattern, rule in compiled if (match := pattern.fullmatch(name))]
        if len(placed) != 1:
            raise UserError(f'"{name}" has no place in the Hugging Face model')
        ((match, rule),) = placed
        values = _values(rule.source, match)
        for part, target in enumerate(rule.targets):
            place = _filled(target, values)
            if place in found and not rule.tied:
                raise UserError(f'"{name}" and "{found[place].source}" would both be "{place}"')
            found[place] = TensorOrigin(name, part, len(rule.targets))
    return found


def is_dropped(name: str) -> bool:
    """Whether a tensor takes no part in what the model computes from an image."""
    return any(_pattern(source).fullmatch(name) for source in DROPPED)


def _pattern(source: str) -> re.Pattern[str]:
    parts, end = [], 0
    for placeholder in PLACEHOLDER.finditer(source):
        parts.append(re.escape(source[end : placeholder.start()]))
        parts.append(f"({CHOICES.get(placeholder[1], '[0-9]+')})")
        end = placeholder.end()
    return re.compile("".join(parts) + re.escape(source[end:]))


def _values(source: str, match: re.Match[str]) -> dict[str, str]:
    """What the placeholders stood for, without what is added to them."""
    return {
        name: str(int(text) - int(offset)) if offset else text
        for (name, offset), text in zip(PLACEHOLDER.findall(source), match.groups(), strict=True)
    }


def _filled(target: str, values: Mapping[str, str]) -> str:
    def value(placeholder: re.Match[str]) -> str:
        name, offset = placeholder.groups()
        return str(int(values[name]) + int(offset)) if offset else values[name]

    return PLACEHOLDER.sub(value, target)
