"""The hybrid detector without heads, units, branches, blocks, layers and queries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.edits import Blocks, Edit, Random, Removed
from ablate_kit.ablations.kinds.means import with_parts
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import config_and_names
from ablate_kit.shrinking.smaller_checkpoint import Shrunk, shrink

from .conftest import at_means, cut, heads, hidden, whole

Smaller = Callable[..., tuple[Path, Shrunk]]
Make = Callable[[Path], list[Edit]]

PARTS: dict[str, tuple[Make, dict[str, Any]]] = {
    "packed heads": (
        lambda path: heads(path, "decoder.layers.{0,2}.self_attn", [1, 2]),
        {"decoder_self_heads": (2, 4, 2)},
    ),
    "deformable heads": (
        lambda path: (
            heads(path, "encoder.layers.0.self_attn", [0])
            + heads(path, "decoder.layers.1.cross_attn", [0, 1, 3])
        ),
        {"encoder_heads": (3,), "decoder_cross_heads": (4, 1, 4)},
    ),
    "neighborhood heads": (
        lambda path: heads(path, "backbone.stage3.0.attention2.layers.0.attn", [3]),
        {"stage3_heads": (4, 3)},
    ),
    "gated units": (
        lambda path: hidden(path, "decoder.layers.1", [0, 5, 63]),
        {"decoder_hidden": (64, 61, 64)},
    ),
    "units by their gates": (
        lambda path: [
            Edit(f"encoder.layers.0.ffn.fc1.{name}", Blocks(0, ((70, 80),)))
            for name in ("weight", "bias")
        ],
        {"encoder_hidden": (54,)},
    ),
    "units of the backbone": (
        lambda path: hidden(path, "attention1", range(10)),
        {"stage3_hidden": (54, 64)},
    ),
    "branches": (
        lambda path: whole(
            path,
            "decoder.layers.0.scale1.weight",
            "decoder.layers.1.scale2.weight",
            "decoder.layers.2.ffn",
            "backbone.stage3.0.attention1.layers.0.attn",
        ),
        {
            "decoder_self_heads": (0, 4, 4),
            "decoder_cross_heads": (4, 0, 4),
            "decoder_hidden": (64, 64, 0),
            "stage3_heads": (0, 4),
        },
    ),
    "an encoder": (lambda path: whole(path, "encoder"), {"encoder_layers": 0}),
    "a decoder layer": (
        lambda path: whole(path, "decoder.layers.1"),
        {"decoder_layers": 2, "decoder_points": (4, 2)},
    ),
    "the last decoder layer": (
        lambda path: whole(path, "decoder.layers.2"),
        {"decoder_layers": 2, "decoder_points": (4, 2)},
    ),
    "blocks": (
        lambda path: whole(path, "backbone.stage1.0", "backbone.stage2.0.norm"),
        {"depths": (1, 0, 1, 1)},
    ),
    "blocks of the neck": (
        lambda path: whole(
            path, "neck.repeats.0.top_blocks.1", "neck.repeats.0.bottom_blocks.3.scale.weight"
        ),
        {"neck_blocks": (1, 0, 1, 1, 1, 1, 0)},
    ),
    "modules": (
        lambda path: whole(path, "backbone.csi", "backbone.pgi2"),
        {"csi": False, "pgi": (1, 3)},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_what_is_zeroed_is_gone(name: str, hybrid: Path, smaller: Smaller) -> None:
    make, expected = PARTS[name]
    written, done = smaller(hybrid, cut(make(hybrid)))
    assert done.left_over == {}
    with open_checkpoint(written) as after, open_checkpoint(hybrid) as before:
        config, old = config_and_names(after)[0], config_and_names(before)[0]
        assert sum(t.numel for t in after.tensors.values()) < sum(
            t.numel for t in before.tensors.values()
        )
    changed = {k: v for k, v in config.to_dict().items() if v != old.to_dict()[k]}
    changed.pop("decoder_refine", None)
    assert changed == expected


def test_layers_that_are_left_move_their_references_as_far_as_before(
    hybrid: Path, smaller: Smaller
) -> None:
    _, done = smaller(hybrid, cut(whole(hybrid, "decoder.layers.0")))
    assert done.settings["decoder_refine"] == pytest.approx((0.3, 0.45))


def test_queries_that_are_removed_are_gone_from_both_tables(hybrid: Path, smaller: Smaller) -> None:
    rows = (0, 3, 11)
    gone = [Removed("queries.content", rows), Removed("queries.position", rows)]
    written, done = smaller(hybrid, cut([], gone))
    assert [str(one) for one in done.structures] == ["queries 0,3,11 (of 12)"]
    with open_checkpoint(written) as after:
        assert after.tensors["queries.content"].shape == (9, 32)
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match="one of their tables"):
        shrink(opened, cut([], gone[:1]), written.with_name("x.safetensors"))


def test_one_head_and_one_unit_stay_of_a_module_without_any(hybrid: Path, smaller: Smaller) -> None:
    cross = cut(heads(hybrid, "decoder.layers.0.cross_attn", range(4)))
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match="--leave keeps them"):
        shrink(opened, cross, hybrid.with_name("x.safetensors"))
    _, done = smaller(hybrid, cross, leave=True)
    assert done.settings["decoder_cross_heads"] == (1, 4, 4)
    assert done.left_over == {"decoder.layers.0.cross_attn.output_proj.weight": 32 * 8}


def test_heads_at_their_means_are_gone_and_a_bias_holds_the_sum(
    hybrid: Path, smaller: Smaller
) -> None:
    module = "decoder.layers.0.self_attn"
    with open_checkpoint(hybrid) as opened:
        cuts = [with_parts(one, opened) for one in at_means(hybrid, module, [1, 3])]
        before = opened.read(f"{module}.out_proj.bias")
    written, done = smaller(hybrid, joined(*cuts))
    assert done.settings == {"decoder_self_heads": (2, 4, 4)}
    assert done.left_over == {}
    with open_checkpoint(written) as after:
        assert torch.allclose(after.read(f"{module}.out_proj.bias"), before + 0.6)
        assert after.tensors[f"{module}.out_proj.weight"].shape == (32, 16)


def test_a_smaller_model_can_be_made_smaller_again(
    hybrid: Path, smaller: Smaller, tmp_path: Path
) -> None:
    """Whose heads are then counted layer by layer."""
    first, _ = smaller(hybrid, cut(heads(hybrid, "decoder.layers.1.self_attn", [0])))
    with open_checkpoint(first) as opened:
        again = cut(heads(first, "decoder.layers.*.self_attn", [2]))
        done = shrink(opened, again, tmp_path / "again.safetensors")
    assert done.settings == {"decoder_self_heads": (3, 2, 3)}


REFUSED: dict[str, tuple[Make | Ablation, str]] = {
    "drawn units": (
        cut([Edit("neck.inputs.0.conv.weight", Random(3, 1, 1))]),
        "zeroes single elements of neck.inputs.0.conv.weight, drawn at random",
    ),
    "means": (
        cut([Edit("neck.inputs.0.conv.weight", value=0.5)]),
        "makes elements of neck.inputs.0.conv.weight other values, not zero",
    ),
    "means of channels": (
        cut([Edit("neck.inputs.0.norm.bias", Blocks(0, ((0, 2),)), values=(0.5, 0.25))]),
        "makes elements of neck.inputs.0.norm.bias other values, not zero",
    ),
    "a bias of another width": (
        cut([Edit("neck.inputs.0.norm.bias", values=(0.5, 0.25))]),
        "makes elements of neck.inputs.0.norm.bias other values, not zero",
    ),
    "a bias alone": (
        cut([Edit("neck.inputs.0.norm.bias", values=tuple(range(32)))]),
        "zeroes no whole head, hidden unit, query, branch, layer or channel",
    ),
    "scaled": (cut([Edit("level_embed", factor=0.5)]), "level_embed scaled or noisy"),
    "another model's": (cut([Edit("level_embedding")]), 'did you mean "level_embed"'),
    "outside": (cut([Edit("level_embed", Blocks(0, ((3, 9),)))]), "has no Blocks"),
    "a level of the neck": (
        lambda path: whole(path, "neck.inputs.0"),
        "neck.inputs.0.conv would have no channel left of 32",
    ),
    "a module that is no part": (
        lambda path: whole(path, "backbone.stem.norm"),
        "zeroes no whole head, hidden unit, query, branch, layer or channel",
    ),
    "queries that are zeroed and still there": (
        cut([Edit("queries.content", Blocks(0, ((1, 2),)))]),
        "32 elements of queries.content",
    ),
    "more than a part": (
        lambda path: [*hidden(path, "encoder", [1]), Edit("level_embed")],
        "not all that .* can be taken out: 128 elements of level_embed would still be there",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_out_is_refused(name: str, hybrid: Path, tmp_path: Path) -> None:
    given, message = REFUSED[name]
    ablation = given if isinstance(given, Ablation) else cut(given(hybrid))
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match=message):
        shrink(opened, ablation, tmp_path / "smaller.safetensors")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_of_a_model_with_other_outputs(
    hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a structure that is not what it was taken for."""
    monkeypatch.setattr("ablate_kit.shrinking.remove_heads._without_part", lambda *_: {0})
    zeroed = cut(heads(hybrid, "decoder.layers.0.self_attn", [1]))
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match="outputs differ"):
        shrink(opened, zeroed, tmp_path / "smaller.safetensors", leave=True)
    assert not list(tmp_path.iterdir())
