"""The config holds every switch, travels as JSON, and refuses what cannot be built."""

import json

import pytest
import torch

from detector.config import PRESETS, HybridConfig, preset
from detector.errors import UserError
from detector.network.model import HybridDetector


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_goes_through_json_unchanged(name: str) -> None:
    config = preset(name)
    assert HybridConfig.from_dict(json.loads(config.to_json())) == config


def test_decoder_points_follow_the_thesis_rule() -> None:
    assert HybridConfig(decoder_layers=1).points == (4,)
    assert HybridConfig(decoder_layers=2).points == (2, 2)
    assert HybridConfig(decoder_layers=5).points == (4, 4, 4, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 500}, "image_size is 500; expected a multiple of 32, such as 512"),
        ({"image_size": 0}, "expected a multiple of 32, such as 32"),
        ({"d_model": 256}, "d_model is 256; expected a multiple of heads 10 and of 4"),
        ({"norm": "lnp"}, "norm is 'lnp'; expected 'gn' or 'bn' or 'ln'"),
        ({"widths": [128, 256, 640]}, r"widths is \[128, 256, 640\]; expected 4 whole numbers"),
        ({"widths": [120, 256, 640, 768]}, r"widths\[0\] is 120; DCNv4 expects a multiple of 16"),
        ({"widths": [128, 256, 636, 768]}, "expected a multiple of attention_heads 10"),
        ({"depths": [2, 2, 0, 0]}, "depths is .*; expected at least 1"),
        ({"depths": [2, 2, -1, 1]}, "depths is .*; expected 0 or more"),
        ({"encoder_heads": [10]}, "encoder_heads has 1 entries for 2 layers"),
        ({"neck_blocks": [1] * 13 + [2]}, "expected 1, or 0 for no block"),
        ({"decoder_refine": [0.1, 0.2]}, "decoder_refine has 2 entries for 4 layers"),
        ({"decoder_hidden": [1, 2, 3, -4]}, "expected 0 or more of each layer"),
        ({"decoder_refine": ["far"]}, r"decoder_refine is \['far'\]; expected numbers"),
        ({"attention_kernel": 4}, "attention_kernel is 4; expected an odd number"),
        ({"decoder_points": [4, 4]}, "decoder_points has 2 entries for 4 decoder_layers"),
        ({"drop_path": 1.0}, "drop_path is 1.0; expected 0 <= drop_path < 1"),
        ({"queries": 1.5}, "queries is 1.5; expected a whole number"),
        ({"aux_loss": 1}, "aux_loss is 1; expected true or false"),
        ({"querie": 10}, 'no setting "querie"; did you mean "queries"'),
        ({"pgi": [1, 4]}, r"pgi is \[1, 4\]; expected some of the stages 1, 2, 3"),
        ({"pgi": [2, 1]}, "in order"),
        ({"pgi": [], "pgi_in_evaluation": True}, "needs PGI in some stage"),
        ({"iou_gamma": 2.0}, "iou_gamma needs the IoU head"),
        ({"iou_head": True, "iou_gamma": -1.0}, "iou_gamma is -1.0; expected 0 or more"),
        ({"proposal_queries": -1}, "proposal_queries is -1; expected 0 or more"),
        ({"peak_queries": 150, "grid_queries": 60}, "grid_queries 60 is more than the 200 queries"),
        ({"proposal_queries": 9}, "only learns with query_objectness"),
        ({"image_size": 32, "peak_queries": 90}, "an image of 32 has 84 cells for them"),
        ({"denoising_groups": 3}, 'denoising_groups is a part of denoising; denoising is "none"'),
        ({"denoising": "thesis", "denoising_queries": 95}, "expects a multiple of 10"),
        ({"denoising": "contrastive", "denoising_groups": 0}, "expected at least 1 and 2"),
        ({"denoising": "thesis", "denoising_label_noise": 1.1}, "expected a probability"),
        ({"denoising": "thesis", "denoising_box_noise": -1.0}, "expected 0 or more"),
        ({"denoising": "thesis", "denoising_layers": "all", "aux_loss": False}, "aux_loss and 2"),
        ({"denoising": "thesis", "d_model": 300}, "denoising expects a multiple of 8"),
        ({"image_size": 2592}, "too large for position"),
        ({"depths": [2, 2**53, 4, 1]}, "expected at most 1000 of each"),
        ({"encoder_layers": 1001}, "expected at most 1000 of each"),
        ({"decoder_layers": 2**53}, "expected at most 1000 of each"),
        ({"d_model": 0}, "d_model is 0; expected at least 1"),
        (
            {"image_size": 32, "widths": [128, 256, 640, 32]},
            r"p6 is one cell, and widths\[3\] is 32.*leave nothing of p6. Expected an .* from 64",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        preset("thesis").replace(**changes)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(UserError, match=r'unknown preset "tinny".*did you mean "tiny"'):
        preset("tinny")
    for name in (0, None, [1]):
        with pytest.raises(UserError, match="unknown preset"):
            preset(name)


SWITCHES: list[dict[str, object]] = [
    {"norm": "bn"},
    {"norm": "ln"},
    {"layer_scale": None},
    {"drop_path": 0.3},
    {"dcn_offset_scale": 0.5},
    {"dcn_grid": "scaled", "dcn_offset_scale": 0.1},
    {"pgi": []},
    {"pgi": [1, 3]},
    {"csi": False},
    {"stage2": "sum"},
    {"stage2": "gate"},
    {"stage2_deform_norm": False},
    {"attention_depth": 2},
    {"attention_heads": 2},
    {"attention_kernel": 3},
    {"mlp_ratio": 1.0},
    {"dense_prior": 0.2},
    {"neck_repeats": 2},
    {"neck_repeats": 3},
    {"heads": 2},
    {"encoder_layers": 0},
    {"encoder_points": 1},
    {"decoder_layers": 1},
    {"decoder_points": [1, 2, 3]},
    {"queries": 7},
    {"query_std": 0.1},
    {"transformer_drop_path": 0.5},
    {"deformable_dropout": 0.5},
    {"position": "cropped"},
    {"boxes": "absolute"},
    {"iou_head": True},
    {"proposal_queries": 2, "query_objectness": True},
    {"peak_queries": 2},
    {"grid_queries": 2},
    {"query_objectness": True},
    {"denoising": "thesis"},
    {"denoising": "contrastive"},
    {"aux_loss": False},
    {"image_size": 96},
    {"num_classes": 4},
    {"widths": [16, 32, 48, 64]},
    {"depths": [2, 1, 1, 1]},
    {"depths": [1, 0, 0, 1]},
    {"neck_blocks": [1, 1, 0, 1, 1, 1, 0]},
    {"stage3_heads": [3, 0]},
    {"stage3_hidden": [5, 0]},
    {"encoder_heads": [3]},
    {"encoder_heads": [0]},
    {"encoder_hidden": [100]},
    {"decoder_self_heads": [4, 1, 0]},
    {"decoder_cross_heads": [0, 4, 4]},
    {"decoder_hidden": [128, 0, 1]},
    {"decoder_refine": [0.15, 0.3, 0.4]},
    {"d_model": 32},
]

WITH_DENOISING: list[dict[str, object]] = [
    {"denoising_queries": 20},
    {"denoising_groups": 2},
    {"denoising_label_noise": 1.0},
    {"denoising_box_noise": 0.1},
    {"denoising_layers": "all"},
]

SMALL = preset("tiny").replace(
    image_size=64, num_classes=3, queries=5, widths=[16, 32, 16, 16], pgi_in_evaluation=False
)


def outputs(config: HybridConfig) -> list[torch.Tensor]:
    """What a training step would see: outputs and every gradient."""
    torch.manual_seed(0)  # drop paths and dropout draw from the global generator
    model = HybridDetector(config).train()
    size = config.image_size
    objects = {"boxes": torch.full((4, 4), 0.3), "labels": torch.tensor([0, 1, 1, 2])}
    out = model(
        torch.linspace(-1, 1, 2 * 3 * size * size).reshape(2, 3, size, size), [objects, objects]
    )
    flat = [out["logits"], out["boxes"]]
    flat += [out[name] for name in ("iou_logits", "objectness_logits") if name in out]
    flat += sum(out.get("denoising", []), ())
    flat += [*out.get("dense", []), *sum(out.get("aux", []), ())]
    sum(tensor.square().sum() for tensor in flat).backward()
    return [tensor.detach() for tensor in flat] + [
        p.grad for p in model.parameters() if p.grad is not None
    ]


def same(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return len(before) == len(after) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("change", SWITCHES, ids=str)
def test_every_switch_changes_the_network(change: dict[str, object]) -> None:
    assert not same(outputs(SMALL), outputs(SMALL.replace(**change)))


@pytest.mark.parametrize("scheme", ["thesis", "contrastive"])
@pytest.mark.parametrize("change", WITH_DENOISING, ids=str)
def test_every_part_of_denoising_changes_the_network(
    scheme: str, change: dict[str, object]
) -> None:
    config = SMALL.replace(denoising=scheme)
    assert same(outputs(config), outputs(config))
    assert not same(outputs(config), outputs(config.replace(**change)))


def test_every_setting_is_covered_by_a_switch_test() -> None:
    tested = {name for change in SWITCHES + WITH_DENOISING for name in change}
    # It is not the network that pads (the hybrid adapter's tests); gates need a gated network.
    elsewhere = {"pad_color", "stage2_dropout"}
    # Of evaluation and decoding; see the hybrid adapter's tests.
    elsewhere |= {"pgi_in_evaluation", "iou_gamma", "background_gate"}
    elsewhere |= {"gate_kernels", "gate_spatial", "gate_deform_share"}  # see test_gate_fuse
    assert tested | elsewhere == set(SMALL.to_dict())
