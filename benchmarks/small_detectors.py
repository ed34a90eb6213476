"""Small Hugging Face detectors of every architecture, from configurations, with random weights.

Every architecture of ``AutoModelForObjectDetection``, of ``AutoModelForZeroShotObjectDetection``
and of this project; ``architectures`` tries what can be done with them.
"""

import json
from pathlib import Path
from typing import Any

import torch

from ablate_kit.models.architectures.bundled import BUNDLED

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
STAGES = {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1], "out_features": PYRAMID}
HIERARCHICAL = {**STAGES, "num_attention_heads": [1, 2, 4, 8], "image_size": SIZE}
BACKBONES: dict[str, dict[str, Any]] = {  # by their usual names
    "Swin": SWIN,
    "Swin V2": {**SWIN, "model_type": "swinv2"},
    "MaskFormer's Swin": {**SWIN, "model_type": "maskformer-swin"},
    "PVT v2": {**HIERARCHICAL, "model_type": "pvt_v2", "sr_ratios": [8, 4, 2, 1]},
    "Hiera": {
        "model_type": "hiera",
        "embed_dim": 24,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "image_size": [SIZE, SIZE],
        "out_features": PYRAMID,
    },
    "DINOv2": {**VIT, "model_type": "dinov2", "mlp_ratio": 2},
    "DINOv2 with registers": {
        **VIT,
        "model_type": "dinov2_with_registers",
        "mlp_ratio": 2,
        "num_register_tokens": 2,
    },
    "DINOv3": {
        **VIT,
        "model_type": "dinov3_vit",
        "intermediate_size": 64,
        "num_register_tokens": 2,
    },
    "BEiT": {**VIT, "model_type": "beit", "use_relative_position_bias": True},
    "ViTDet": {
        **VIT,
        "model_type": "vitdet",
        "pretrain_image_size": SIZE,
        "window_block_indices": [0],
        "window_size": 4,
        "use_relative_position_embeddings": True,
    },
    "Pixio": {**VIT, "model_type": "pixio"},
    "Sapiens 2": {**VIT, "model_type": "sapiens2", "intermediate_size": 64},
    "ConvNeXt": {**STAGES, "model_type": "convnext"},
    "ConvNeXt V2": {**STAGES, "model_type": "convnextv2"},
    "DINOv3 ConvNeXt": {**STAGES, "model_type": "dinov3_convnext"},
    "BiT": {
        **STAGES,
        "model_type": "bit",
        "hidden_sizes": [32, 64, 96, 128],
        "num_groups": 8,
        "embedding_size": 16,
    },
    "ResNet-D": {**RESNET, "model_type": "rt_detr_resnet", "out_features": PYRAMID},
    "HGNetV2": {**HGNET, "out_features": PYRAMID},
    "TextNet": {"model_type": "textnet", "out_features": PYRAMID},
    "PP-LCNet": {"model_type": "pp_lcnet", "scale": 0.75, "out_features": PYRAMID},
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
RT_DETR_RESNET = {
    **RT_DETR,
    "backbone_config": {**RESNET, "model_type": "rt_detr_resnet", "out_features": PYRAMID},
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
OMDET: dict[str, Any] = {
    "text_projection_in_dim": 24,
    "text_projection_out_dim": 24,
    "task_encoder_hidden_dim": 32,
    "class_embed_dim": 24,
    "num_queries": 10,
    "encoder_hidden_dim": 32,
    "vision_features_channels": [32, 32, 32],
    "encoder_in_channels": [48, 96, 192],
    "encoder_attention_heads": 2,
    "encoder_dim_feedforward": 48,
    "decoder_hidden_dim": 32,
    "decoder_num_heads": 4,
    "decoder_num_layers": 2,
    "apply_layernorm_after_vision_backbone": False,  # which is for timm's backbones
    "decoder_dim_feedforward": 48,
    "backbone_config": {**SWIN, "out_features": PYRAMID},
    "text_config": {**OWL["text_config"], "model_type": "clip_text_model"},
}
ASKED: dict[str, dict[str, Any]] = {  # for what a text names
    "grounding-dino": GROUNDING_DINO,
    "mm-grounding-dino": GROUNDING_DINO,
    "owlvit": OWL,
    "owlv2": OWL,
    "omdet-turbo": OMDET,
}
# By model type, settings of a small model; a second word is a variant of it.
MODELS: dict[str, dict[str, Any]] = {
    "detr": DETR,
    "table-transformer": DETR,
    "conditional_detr": DETR,
    "dab-detr": {**DETR, "hidden_size": 32},
    "deformable_detr": {**DEFORMABLE, "with_box_refine": True, "two_stage": True},
    **{
        f"deformable_detr {name}": {
            **DEFORMABLE,
            "num_feature_levels": max(2, len(backbone["out_features"])),
            "backbone_config": backbone,
        }
        for name, backbone in BACKBONES.items()
    },
    "dino_detr": DEFORMABLE,
    "dino_detr Swin": {**DEFORMABLE, "backbone_config": SWIN},
    "rt_detr": RT_DETR_RESNET,
    "rt_detr_v2": RT_DETR_RESNET,
    "deim_rt_detr_v2": RT_DETR_RESNET,
    "d_fine": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "deim_d_fine": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "deimv2": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "original_deimv2": {**RT_DETR, "backbone_config": {**HGNET, "out_features": PYRAMID}},
    "original_deimv2 DINOv3": {
        **RT_DETR,
        "backbone_config": {
            "model_type": "dinov3_vit",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_register_tokens": 2,
            "out_features": ["stage1", "stage2", "stage3"],
        },
    },
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
    "pp_ocrv6_small_det": {"backbone_config": LCNET, "layer_list_out_channels": [48, 96, 192, 384]},
    **ASKED,
}


def build(name: str, folder: Path) -> None:
    """A small model with random weights, none of them zero, as a Hugging Face folder."""
    import transformers

    kind = name.split()[0]
    own = BUNDLED.get(kind)
    make = transformers.AutoModelForObjectDetection.from_config
    if own:
        configs, make = own.classes()
        config = configs(**MODELS[name], **LABELS)
    else:
        config = transformers.AutoConfig.for_model(kind, **MODELS[name], **LABELS)
    if name in ASKED:
        make = transformers.AutoModelForZeroShotObjectDetection.from_config
        tokenizer(name).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    # The processor that the library names for it; else the one that its documentation uses.
    names = transformers.models.auto.image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES
    known = names.get(kind) or {"pil": "RTDetrImageProcessorPil"}
    if isinstance(known, tuple):  # of transformers 5.1: of Python, of torchvision
        known = {"pil": known[0]}
    if name == "dab-detr":
        known = {"pil": "ConditionalDetrImageProcessorPil"}
    elif kind == "dino_detr":
        known = {"pil": "DeformableDetrImageProcessorPil"}
    processors = known.get("pil") or known["torchvision"]
    processor = {"image_processor_type": processors.removesuffix("Pil")}
    processor |= {"size": {"height": SIZE, "width": SIZE}, "do_pad": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def tokenizer(name: str) -> Any:
    """Words as the numbers that the network expects."""
    from transformers import BertTokenizerFast, CLIPTokenizerFast

    if name.startswith(("owl", "omdet")):
        known = [letter + end for end in ("", "</w>") for letter in LETTERS]
        words = ["<pad>", *known, "<|startoftext|>", "<|endoftext|>"]
        numbers = {word: i for i, word in enumerate(words)}
        return CLIPTokenizerFast(vocab=numbers, merges=[], pad_token=words[0])
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}
    special |= {1029: "?", **dict(enumerate((*WORDS, "##s"), start=1040))}
    return BertTokenizerFast(vocab={special.get(i, f"[unused{i}]"): i for i in range(1100)})
