"""YOLOS (Fang et al. 2021), as https://github.com/hustvl/YOLOS saves it."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, detector_config, image_processor
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.told_by_file import Told

BLOCKS, HF_BLOCKS = "backbone.blocks.{layer}", "vit.encoder.layer.{layer}"
PATCHES, POSITIONS, TOKENS = (
    f"backbone.{name}" for name in ("patch_embed.proj", "pos_embed", "det_token")
)
BETWEEN = "backbone.mid_pos_embed"  # position encodings that are added behind each block
OUTPUTS = "class_embed.layers.2.weight"

RULES = (
    NameRule("backbone.cls_token", ("vit.embeddings.cls_token",)),
    NameRule(TOKENS, ("vit.embeddings.detection_tokens",)),
    NameRule(POSITIONS, ("vit.embeddings.position_embeddings",)),
    NameRule(BETWEEN, ("vit.encoder.interpolation.mid_position_embeddings",)),
    both(PATCHES, "vit.embeddings.patch_embeddings.projection"),
    NameRule(
        f"{BLOCKS}.attn.qkv.{{p}}",
        tuple(f"{HF_BLOCKS}.attention.attention.{one}.{{p}}" for one in ("query", "key", "value")),
    ),
    *(
        both(f"{BLOCKS}.{source}", f"{HF_BLOCKS}.{target}")
        for source, target in {
            "attn.proj": "attention.output.dense",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
        }.items()
    ),
    both("backbone.norm", "vit.layernorm"),
    both("class_embed.layers.{n}", "class_labels_classifier.layers.{n}"),
    both("bbox_embed.layers.{n}", "bbox_predictor.layers.{n}"),
)

HEADS = {192: 3, 330: 6, 384: 6, 768: 12}  # of the published models, by width
# Height and width of the images whose patches have position encodings, by number of patches.
PUBLISHED = {50 * 83: (800, 1333), 32 * 54: (512, 864), 50 * 84: (800, 1344)}
SIDES = {192: 512}  # of images, by width: the smallest model sees smaller ones


SIGNS = {TOKENS, POSITIONS, "backbone.blocks.0.attn.qkv.weight", OUTPUTS}


def counterpart(told: Told) -> Counterpart:
    width, _, patch, _ = told.shape(f"{PATCHES}.weight", 4)
    tokens = told.shape(TOKENS, 3)[1]
    classes = told.classes(told.rows(OUTPUTS) - 1)  # the last is "no object"
    heads = told.heads("num_heads", width, HEADS.get(width, width // 64))
    config = {
        **detector_config("Yolos", "yolos", classes),
        "hidden_size": width,
        "num_hidden_layers": told.count("backbone.blocks"),
        "num_attention_heads": heads,
        "intermediate_size": told.rows("backbone.blocks.0.mlp.fc1.weight"),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "patch_size": patch,
        "num_detection_tokens": tokens,
        "qkv_bias": True,
        **_positions(told, patch, tokens),
    }
    side = told.number("eval_size", SIDES.get(width, 800), "pixels as the shorter side of an image")
    longest = side * 1333 // 800
    if (longest + 2) % patch < 4:
        # Theirs rounds the shorter side before it computes the longer one, which is cut to patches.
        told.assumed.append("long images may be a patch shorter than the repository makes them")
    size = {"shortest_edge": side, "longest_edge": longest}
    return told.counterpart(config, image_processor("YolosImageProcessor", size), RULES)


def _positions(told: Told, patch: int, tokens: int) -> dict[str, Any]:
    """Of which images the patches have position encodings."""
    count = told.shape(POSITIONS, 3)[1]
    patches = count - tokens - 1  # one is the class token's
    if patches not in PUBLISHED and "init_pe_size" not in told.arguments:
        raise UserError(
            f"{told.checkpoint} does not tell init_pe_size, the size of images for which it has "
            f"{patches} position encodings; no published model has so many"
        )
    size = told.numbers(
        "init_pe_size", PUBLISHED.get(patches, ()), "position encodings for images of {} pixels"
    )
    if len(size) != 2 or (size[0] // patch) * (size[1] // patch) != patches:
        raise UserError(
            f"images of {' by '.join(map(str, size))} pixels (init_pe_size) do not have the "
            f"{patches} patches of which {told.checkpoint} has position encodings"
        )
    between = BETWEEN in told
    if between:
        also = told.numbers("mid_pe_size", size, "and as many between layers")
        if also != size or told.shape(BETWEEN, 4)[2] != count:
            raise UserError(
                f"position encodings between layers for images of {also} pixels (mid_pe_size), and "
                f"of {size} before them, have no counterpart in transformers"
            )
    return {"image_size": list(size), "use_mid_position_embeddings": between}
