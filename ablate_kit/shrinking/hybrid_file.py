"""The hybrid detector with parts taken out: its configuration, and the file that carries it."""

from collections.abc import Mapping

import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import (
    class_names,
    config_and_names,
)
from ablate_kit.models.frameworks.misfit import shapes_of
from ablate_kit.models.rewriting.new_file_content import Content
from ablate_kit.shrinking.reduction import Reduction, Shape
from detector.checkpoint import weights_metadata
from detector.config import HybridConfig
from detector.network import legacy
from detector.network.model import HybridDetector
from detector.settings import LAYER_SIZES


def content_of(checkpoint: Checkpoint, reduction: Reduction) -> tuple[Content, HybridConfig]:
    """The smaller file; raises ``UserError`` where no configuration describes what is left."""
    if legacy.is_legacy(checkpoint.tensors):
        raise UserError(
            f"{checkpoint} has the notebooks' names; convert it with ablate convert first, and "
            "make the ablation anew for what that writes"
        )
    config, _ = config_and_names(checkpoint)
    shapes = reduction.shapes()
    smaller = _config(config, reduction, shapes)
    _check(smaller, shapes)
    held = {reduction.renamed.get(name, name): name for name in checkpoint.tensors
            if name not in reduction.dropped}  # fmt: skip
    layout = {new: (checkpoint.tensors[name].dtype, shapes[new]) for new, name in held.items()}
    classes = checkpoint.classes or class_names(config.num_classes)

    def read(name: str) -> torch.Tensor:
        return reduction.applied(held[name], checkpoint.read(held[name]))

    return Content(layout, weights_metadata(smaller.to_json(), classes), read), smaller


def _config(
    config: HybridConfig, reduction: Reduction, shapes: Mapping[str, Shape]
) -> HybridConfig:
    changes = dict.fromkeys(LAYER_SIZES) | {"decoder_refine": config.decoder_refine}
    changes |= reduction.settings
    rows = {shapes["queries.content"][:1], shapes["queries.position"][:1]}
    before = config.queries + (config.denoising_queries if config.denoising == "thesis" else 0)
    if len(rows) > 1:
        raise UserError("queries are taken out of one of their tables and not of the other")
    changes["queries"] = config.queries - before + sum(rows.pop())
    smaller = config.replace(**changes)
    sizes = {}
    for name, found in _sizes(smaller, shapes, config.d_model // config.heads).items():
        sizes[name] = None if found == smaller.layer_sizes(name) else found
    return smaller.replace(**sizes)


def _sizes(
    config: HybridConfig, shapes: Mapping[str, Shape], of_head: int
) -> dict[str, tuple[int, ...]]:
    """Heads and hidden units of each layer, as its tensors have them; 0 of a branch not there."""

    def width(name: str) -> int:
        return tuple(shapes[name])[1] if name in shapes else 0

    of_stage3 = config.widths[2] // config.attention_heads
    stage3 = [
        f"backbone.stage3.{block}.attention{stage}.layers.{layer}"
        for block in range(config.depths[3])
        for stage in (1, 2)
        for layer in range(config.attention_depth)
    ]
    encoder = [f"encoder.layers.{i}" for i in range(config.encoder_layers)]
    decoder = [f"decoder.layers.{i}" for i in range(config.decoder_layers)]

    def all_of(layers: list[str], name: str, divisor: int = 1) -> tuple[int, ...]:
        return tuple(width(f"{layer}.{name}.weight") // divisor for layer in layers)

    neck = [
        f"neck.repeats.{repeat}.{blocks}.{i}"
        for repeat in range(config.neck_repeats)
        for blocks, count in (("top_blocks", 3), ("bottom_blocks", 4))
        for i in range(count)
    ]
    return {
        "neck_blocks": tuple(int(f"{block}.scale.weight" in shapes) for block in neck),
        "stage3_heads": all_of(stage3, "attn.proj", of_stage3),
        "stage3_hidden": all_of(stage3, "mlp.fc2"),
        "encoder_heads": all_of(encoder, "self_attn.output_proj", of_head),
        "encoder_hidden": all_of(encoder, "ffn.fc2"),
        "decoder_self_heads": all_of(decoder, "self_attn.out_proj", of_head),
        "decoder_cross_heads": all_of(decoder, "cross_attn.output_proj", of_head),
        "decoder_hidden": all_of(decoder, "ffn.fc2"),
    }


def _check(config: HybridConfig, shapes: Mapping[str, Shape]) -> None:
    """Refuses what the configuration has no setting for."""
    with torch.device("meta"):
        expected = shapes_of(HybridDetector(config))
    wrong = [name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name)]
    if wrong:
        name = wrong[0]
        raise UserError(
            f'the hybrid detector has no setting for a "{name}" of shape {shapes.get(name)}; '
            f"with all others as they are it has shape {expected.get(name)}"
        )
