"""Which object detectors of transformers can be cut, evaluated and replayed, tried one by one.

Every architecture of ``AutoModelForObjectDetection`` and of
``AutoModelForZeroShotObjectDetection`` is built small from a configuration, with random weights,
saved, and opened as any checkpoint. The table is part of docs/architectures.md:

    python benchmarks/architectures.py --write docs/architectures.md

Some image processors need torchvision; where it is missing, the table says so.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ablate_kit.ablations.ablation import Ablation, Edit
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import Attention, attentions
from ablate_kit.ablations.kinds.heads import heads_chosen, heads_each
from ablate_kit.anatomy import head_counts
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.detect import detect, inference
from ablate_kit.models.frameworks.transformers import TransformersAdapter
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.variant import Variant

SIZE = 128  # of the images, in pixels
LABELS = {"id2label": {0: "disc", 1: "square", 2: "star"}}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
HGNET = {
    "model_type": "hgnet_v2",
    "stem_channels": [3, 8, 16],
    "stage_in_channels": [16, 16, 32, 64],
    "stage_mid_channels": [8, 8, 16, 16],
    "stage_out_channels": [16, 32, 64, 128],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "embedding_size": 16,
}
PYRAMID = ["stage2", "stage3", "stage4"]
VIT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": SIZE,
    "patch_size": 16,
    "num_windows": 4,
    "out_features": ["stage2"],
}
DETR = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 10,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {**RESNET, "out_features": ["stage4"]},
}
DEFORMABLE = {**DETR, "backbone_config": {**RESNET, "out_features": PYRAMID}}
SWIN = {
    "model_type": "swin",
    "image_size": SIZE,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [1, 1, 1, 1],
    "num_heads": [3, 6, 12, 24],
    "window_size": 4,
    "out_features": PYRAMID,
}
RT_DETR = {
    "d_model": 32,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 10,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [32, 64, 128],
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 0,
    "anchor_image_size": None,
}
LW_DETR = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "num_queries": 10,
    "group_detr": 2,
}
PP = {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}}
OCR = {
    "backbone_config": {**HGNET, "out_features": ["stage1", *PYRAMID]},
    "neck_out_channels": 16,
    "kernel_list": [3, 2, 2],
    "scale_factor_list": [1, 2, 4, 8],
    "intraclass_block_config": {
        "reduce_channel": [1, 1, 0],
        "return_channel": [1, 1, 0],
        **{
            f"{name}_{ratio}ratio": [[h, w], [1, 1], [h // 2, w // 2]]
            for size, ratio in ((7, "long"), (5, "mid"), (3, "short"))
            for name, h, w in (
                ("vertical_long_to_small_conv", size, 1),
                ("horizontal_small_to_long_conv", 1, size),
                ("symmetric_conv_long", size, size),
            )
        },
    },
}
LCNET = {
    "model_type": "pp_lcnet_v3",
    "scale": 0.75,
    "divisor": 16,
    "out_features": ["stage2", "stage3", "stage4", "stage5"],
}

# By model type, settings of a small model; a second word is a variant of it.
WORDS = ("disc", "square", "star", "red", "cross")  # that the tokenizers know
GROUNDING_DINO: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 10,
    "max_text_len": 32,
    "backbone_config": {**SWIN, "out_features": PYRAMID},
    "text_config": {
        "model_type": "bert",
        "vocab_size": 1100,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 32,
    },
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
OWL: dict[str, Any] = {
    "projection_dim": 24,
    "text_config": {
        "vocab_size": 2 * len(LETTERS) + 3,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 32,
        "bos_token_id": 2 * len(LETTERS) + 1,
        "eos_token_id": 2 * len(LETTERS) + 2,
        "pad_token_id": 0,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": 32,
    },
}
ASKED: dict[str, dict[str, Any]] = {  # for what a text names
    "grounding-dino": GROUNDING_DINO,
    "mm-grounding-dino": GROUNDING_DINO,
    "owlvit": OWL,
    "owlv2": OWL,
}
MODELS: dict[str, dict[str, Any]] = {
    "detr": DETR,
    "table-transformer": DETR,
    "conditional_detr": DETR,
    "dab-detr": {**DETR, "hidden_size": 32},
    "deformable_detr": {**DEFORMABLE, "with_box_refine": True, "two_stage": True},
    "deformable_detr Swin": {**DEFORMABLE, "backbone_config": SWIN},
    "deformable_detr DINOv2": {
        **DEFORMABLE,
        "num_feature_levels": 2,
        "backbone_config": {**VIT, "model_type": "dinov2", "mlp_ratio": 2},
    },
    "rt_detr": {
        **RT_DETR,
        "backbone_config": {**RESNET, "model_type": "rt_detr_resnet", "out_features": PYRAMID},
    },
    "rt_detr_v2": {
        **RT_DETR,
        "backbone_config": {**RESNET, "model_type": "rt_detr_resnet", "out_features": PYRAMID},
    },
    "d_fine": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "deimv2": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "lw_detr": {
        **LW_DETR,
        "projector_scale_factors": [1.0],
        "backbone_config": {**VIT, "model_type": "lw_detr_vit", "window_block_indices": [0]},
    },
    "rf_detr": {
        **LW_DETR,
        "backbone_config": {**VIT, "model_type": "rf_detr_dinov2", "window_block_indices": [0]},
    },
    "yolos": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "image_size": [SIZE, SIZE],
        "num_detection_tokens": 10,
    },
    "pp_doclayout_v2": {
        **PP,
        "class_thresholds": [0.5] * 3,
        "class_order": [0, 1, 2],
        "reading_order_config": {
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_hidden_layers": 1,
            "intermediate_size": 64,
        },
    },
    "pp_doclayout_v3": {
        **PP,
        "backbone_config": {**HGNET, "out_features": ["stage1", *PYRAMID]},
        "x4_feat_dim": 16,
    },
    "pp_doclayout_v4": {**{k: v for k, v in PP.items() if k != "d_model"}, "hidden_size": 32},
    "pp_ocrv5_server_det": OCR,
    "pp_ocrv6_medium_det": OCR,
    "pp_ocrv5_mobile_det": {"backbone_config": LCNET},
    "pp_ocrv6_small_det": {
        "backbone_config": LCNET,
        "layer_list_out_channels": [48, 96, 192, 384],
    },
    **ASKED,
}


@dataclass(frozen=True)
class Row:
    """What came out for one architecture; each cell is a count, "yes", or the reason why not."""

    name: str
    keys: str
    found: str
    exact: str
    evaluated: str
    replayed: str

    def text(self) -> str:
        cells = self.name, self.keys, self.found, self.exact, self.evaluated, self.replayed
        return "| " + " | ".join(cells) + " |"


HEAD = Row("architecture", "keys", "attention", "heads exact", "evaluates", "replays").text()


def build(name: str, folder: Path) -> None:
    """A small model with random weights, none of them zero, as a Hugging Face folder."""
    import transformers

    config = transformers.AutoConfig.for_model(name.split()[0], **MODELS[name], **LABELS)
    kinds = transformers.AutoModelForObjectDetection
    if name in ASKED:
        kinds = transformers.AutoModelForZeroShotObjectDetection
        tokenizer(name).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kinds.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    # The processor that the library names for it; else the one that its documentation uses.
    names = transformers.models.auto.image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES
    known = names.get(name.split()[0]) or {"pil": "RTDetrImageProcessorPil"}
    if name == "dab-detr":
        known = {"pil": "ConditionalDetrImageProcessorPil"}
    kind = known.get("pil") or known["torchvision"]
    processor = {"image_processor_type": kind.removesuffix("Pil")}
    processor |= {"size": {"height": SIZE, "width": SIZE}, "do_pad": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def tokenizer(name: str) -> Any:
    """Words as the numbers that the network expects."""
    from transformers import BertTokenizerFast, CLIPTokenizerFast

    if name.startswith("owl"):
        known = [letter + end for end in ("", "</w>") for letter in LETTERS]
        words = ["<pad>", *known, "<|startoftext|>", "<|endoftext|>"]
        numbers = {word: i for i, word in enumerate(words)}
        return CLIPTokenizerFast(vocab=numbers, merges=[], pad_token=words[0])
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}
    special |= {1029: "?", **dict(enumerate((*WORDS, "##s"), start=1040))}
    return BertTokenizerFast(vocab={special.get(i, f"[unused{i}]"): i for i in range(1100)})


def tried(name: str, folder: Path) -> Row:
    """Everything that the table tells of the architecture at ``folder``."""
    with open_checkpoint(folder) as checkpoint:
        try:
            adapter = open_adapter(checkpoint, class_names=classes(name, folder))
        except UserError as error:
            return Row(name, "", "", "", reason(error), "")
        assert isinstance(adapter, TransformersAdapter)
        floating = [n for n, info in checkpoint.tensors.items() if info.is_floating]
        keys = f"{sum(bool(adapter.live_names()[n]) for n in floating)}/{len(floating)}"
        present = attention_modules(adapter.module)
        known = dict(recognized(checkpoint, adapter, present))
        found = f"{len(known)}/{len(present)}"
        inputs = adapter.prepare(image()).inputs
        exact = [
            one
            for place, attention in known.items()
            for one in same_as_without(adapter, inputs, place, attention)
        ]
        heads = f"{sum(exact)}/{len(exact)}"
        try:
            results = detect(adapter, [image()])
        except UserError as error:
            return Row(name, keys, found, heads, reason(error), "")
        usable = all(np.isfinite(one.boxes).all() and len(one.boxes) for one in results)
        notes = notes_of_replay(adapter, list(known.values()))
        return Row(
            name,
            keys,
            found,
            heads,
            "yes" if usable else "boxes that are NaN",
            "yes" if not notes else f"no: {notes[0]}",
        )


def classes(name: str, folder: Path) -> Path | None:
    """A file of what a detector is asked for, if it is asked."""
    if name not in ASKED:
        return None
    path = folder / "classes.txt"
    path.write_text("disc\nred squares\nstar\n")
    return path


def reason(error: UserError) -> str:
    text = str(error)
    if "torchvision" in text:
        return "needs torchvision"
    if "cv2" in text or "OpenCV" in text:
        return "needs OpenCV"
    return "no: it gives no boxes" if "gives no boxes" in text else f"no: {text[:80]}"


def image() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def attention_modules(module: nn.Module) -> list[str]:
    """The outermost modules whose class is called an attention and has weights."""
    found: list[str] = []
    for name, one in module.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if type(one).__name__.endswith("Attention") and not inside and list(one.parameters()):
            found.append(name)
    return found


def recognized(
    checkpoint: Checkpoint, adapter: TransformersAdapter, present: list[str]
) -> Iterator[tuple[str, Attention]]:
    """The attentions that are known by the file alone, with as many heads as the module says."""
    live = adapter.live_names()
    for attention in attentions(checkpoint.tensors, checkpoint.settings):
        names = [n for own in attention.tensors for n in live.get(attention.name_of(own), ())]
        place = next(one for one in present if any(n.startswith(f"{one}.") for n in names))
        says = set(head_counts.of_live(adapter.module, names).values())
        if says == {attention.heads}:
            yield place, attention


@torch.no_grad()
def output_of(adapter: TransformersAdapter, inputs: Mapping[str, Tensor], place: str) -> Tensor:
    """What the module at ``place`` gives when it is first called."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: object, output: object) -> None:
        seen.append(next(x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)).clone())

    handle = adapter.module.get_submodule(place).register_forward_hook(look)
    try:
        with inference(adapter.module):
            adapter.forward(inputs)
    finally:
        handle.remove()
    return seen[0]


def same_as_without(
    adapter: TransformersAdapter, inputs: Mapping[str, Tensor], place: str, attention: Attention
) -> Iterator[bool]:
    """For the first and the last head, whether the cut is what setting its output to zero is."""
    full = output_of(adapter, inputs, place)
    scale = full.abs().max()
    for head in (0, attention.head_count() - 1):
        with without(adapter, place, attention, head):
            expected = output_of(adapter, inputs, place)
        with applied(adapter.module, heads_chosen([attention], [head], "x"), adapter.live_names()):
            cut = output_of(adapter, inputs, place)
        yield bool((cut - expected).abs().max() < 1e-5 * scale < (full - cut).abs().max())


@contextmanager
def without(
    adapter: TransformersAdapter, place: str, attention: Attention, head: int
) -> Iterator[None]:
    """The reference: a head's share of what comes into the output projection is zero; of the
    module's output where it has none."""
    heads = attention.head_count()
    output = next((n for n in attention.layout.output if n in attention.tensors), None)

    def kept(x: Tensor) -> Tensor:
        keep = torch.ones(heads)
        keep[head] = 0
        return x * keep.repeat_interleave(x.shape[-1] // heads)

    if output:
        (live,) = adapter.live_names()[attention.name_of(output)]
        projection = adapter.module.get_submodule(live.removesuffix(".weight"))
        handle = projection.register_forward_pre_hook(lambda _, args: (kept(args[0]), *args[1:]))
    else:
        handle = adapter.module.get_submodule(place).register_forward_hook(
            lambda _, __, out: (kept(out[0]), *out[1:]) if isinstance(out, tuple) else kept(out)
        )
    try:
        yield
    finally:
        handle.remove()


def notes_of_replay(adapter: TransformersAdapter, known: list[Attention]) -> list[str]:
    """What a sweep over some of the heads, and over some tensors, cannot replay bit for bit."""
    cuts = heads_each(known)
    cuts = cuts[:: len(cuts) // 12 + 1]
    tensors = list(adapter.live_names())
    cuts += [Ablation(n, "component", (Edit(n),)) for n in tensors[:: max(1, len(tensors) // 8)]]
    with VariantExecutor(adapter) as passes:
        passes.run([adapter.prepare(image())], [Variant.of(one) for one in cuts])
        return passes.notes


def table(names: list[str]) -> Iterator[str]:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            build(name, Path(folder))
            yield tried(name, Path(folder)).text()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="some of the architectures")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    options = parser.parse_args(arguments)
    lines = []
    for line in table(options.names or list(MODELS)):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        text = options.write.read_text()
        made = re.sub(r"(?m)(^\|.*\n)+", "\n".join(lines) + "\n", text, count=1)
        options.write.write_text(made)


if __name__ == "__main__":
    main()
