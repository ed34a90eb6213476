"""DINO, an architecture of this project: files of its repository, and folders that hold it."""

import importlib
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.attention import attentions
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.opening.open import open_adapter
from tests.ablate_kit.conftest import Run
from tests.ablate_kit.models.bridge.official_files import (
    Change,
    Renaming,
    arguments,
    at_random,
    bridged,
    computes_the_same,
    family,
    in_file,
    no_arguments,
    official,
    opened_by_transformers,
    put,
    refused,
    save,
    without,
)
from tests.ablate_kit.models.bridge.test_official_files import (
    COMMON,
    DECODER,
    HEADS,
    NAMES,
    OUTPUTS,
    QUERIES,
    WIDTH,
)
from tests.ablate_kit.small_sweeps import adapter_of

pytest.importorskip("transformers", reason="transformers is not installed")
dino_detr = importlib.import_module("ablate_kit.models.architectures.modeling_dino_detr")

SIZE = (2, 3, 64, 96)
DINO = COMMON | {
    "num_feature_levels": 4,
    "encoder_n_points": 2,
    "decoder_n_points": 3,
    "position_temperature_height": 10,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "shared heads": {},
    "a head per layer": {"share_class_embed": False, "share_bbox_embed": False},
    "contents of the encoder": {"learned_contents": False},
    "Swin": {
        "backbone_config": {
            "model_type": "swin", "embed_dim": 8, "depths": [2, 1, 2, 1], "num_heads": [1, 2, 2, 4],
            "window_size": 3, "out_features": ["stage2", "stage3", "stage4"],
        }
    },
    "all levels of the backbone": {
        "backbone_config": COMMON["backbone_config"]
        | {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    },
}  # fmt: skip
PATCHES = "backbone.0.patch_embed.proj.weight"
TABLE = "backbone.0.layers.0.blocks.0.attn.relative_position_bias_table"
OFFICIAL: list[Renaming] = [
    (r"^model\.backbone\.conv_encoder\.model\.(layers|norm\d|patch_embed)", r"backbone.0.\1"),
    ("^model.query_contents", "transformer.tgt_embed"),
    (r"^enc_(class|bbox)_embed", r"transformer.enc_out_\1_embed"),
    *DECODER["deformable_detr"],
    *NAMES,
]


def random_dino(**settings: Any) -> Any:
    configs, kind = BUNDLED["dino_detr"].classes()
    return at_random(lambda: kind(configs(**{**DINO, **settings})))


def saved(model: Any) -> dict[str, Tensor]:
    """As its repository does: each head twice, of each layer, and with labels for denoising."""
    found = official(in_file(model), OFFICIAL)
    for name in [name for name in found if name.startswith(("class_embed.", "bbox_embed."))]:
        head, number, rest = name.split(".", 2)
        for n in range(3) if len(model.bbox_embed) == 1 else [number]:
            of_layer = f"{head}.{n}.{rest}"
            found[of_layer] = found[f"transformer.decoder.{of_layer}"] = found[name]
    for name in [name for name in found if name.endswith("relative_position_bias_table")]:
        found[name.replace("bias_table", "index")] = torch.zeros(9, 9, dtype=torch.int64)
    return found | {"label_enc.weight": torch.ones(OUTPUTS + 1, WIDTH)}


def write(path: Path, variant: str = "shared heads", change: Change | None = None) -> Any:
    model = random_dino(**VARIANTS[variant])
    told = {"nheads": HEADS, "num_queries": QUERIES, "pe_temperatureH": 10, "pe_temperatureW": 20}
    save(path, saved(model), told, change)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("dino"), "shared heads")


@pytest.fixture(scope="module")
def swin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("swin"), "Swin")


def converted(place: Path, variant: str) -> Path:
    write(place / "dino.pth", variant)
    bridged(place / "dino.pth", place / "hf")
    prepared = place / "hf" / "preprocessor_config.json"
    small = json.loads(prepared.read_text()) | {"size": {"shortest_edge": 96, "longest_edge": 96}}
    prepared.write_text(json.dumps(small))
    return place / "hf"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "dino.pth", variant)
    assert family(tmp_path / "dino.pth") == "IDEA-Research/DINO"
    bridged(tmp_path / "dino.pth", tmp_path / "hf")
    computes_the_same(tmp_path / "hf", model, *SIZE)


def test_heads_that_differ_anywhere_are_not_shared(tmp_path: Path) -> None:
    """The layers of a new head are copies of one another, but for the last."""
    name = "bbox_embed.1.layers.2.bias"
    write(tmp_path / "dino.pth", change=put(name, torch.tensor([0.1, 0.2, 0.3, 0.4])))
    bridged(tmp_path / "dino.pth", tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["share_class_embed"], config["share_bbox_embed"]) == (True, False)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    write(tmp_path / "dino.pth", "contents of the encoder", no_arguments)
    assert bridged(tmp_path / "dino.pth", tmp_path / "hf", heads=HEADS) == (
        "no dilation in the backbone",
        "norms after each branch",
        "ReLU in the feed-forward layers",
        "self-attention first in decoder layers",
        "no suppression of overlapping boxes",
        "sines as position encodings",
        "900 queries (--set num_queries)",
        "names class_0 to class_4 (--class-names)",
        "20 as temperature of rows (--set pe_temperatureH)",
        "20 as that of columns (--set pe_temperatureW)",
    )


HEAD_SIZES = "transformer.two_stage_wh_embedding.weight"


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("shared heads", without("^backbone"), "backbone is no ResNet and no Swin"),
        ("shared heads", arguments(dilation=True), "dilation is True, which has no exact"),
        ("shared heads", arguments(decoder_module_seq=["ca", "sa", "ffn"]), "module_seq is"),
        ("shared heads", arguments(nms_iou_threshold=0.7), "nms_iou_threshold is 0.7"),
        ("shared heads", put(HEAD_SIZES, torch.ones(1, 2)), "two_stage_learn_wh"),
        ("shared heads", put("transformer.pat_embed_for_2stage", torch.ones(1, WIDTH)), "no place"),
        ("shared heads", without(r"decoder\.norm\.bias"), "decoder.norm.bias\" is missing"),
        ("Swin", without(r"^backbone\.0\.layers"), r"no tensor .*layers\.0\.blocks\.0\.attn"),
        ("Swin", put(TABLE, torch.ones(26, 1)), "26 relative positions; expected the square"),
        ("Swin", put(PATCHES, torch.ones(0, 3, 4, 4)), r"\(0, 3, 4, 4\), and empty"),
        ("Swin", put(PATCHES, torch.ones(8, 3, 0, 0)), r"\(8, 3, 0, 0\), and empty"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, variant: str, change: Change, message: str
) -> None:
    write(tmp_path / "dino.pth", variant, change)
    refused(tmp_path / "dino.pth", message)


@pytest.mark.parametrize("backbone", ["ResNet", "Swin"])
def test_transformers_opens_the_folder_without_this_project(
    request: pytest.FixtureRequest, backbone: str
) -> None:
    folder = request.getfixturevalue("folder" if backbone == "ResNet" else "swin_folder")
    computes_the_same(folder, opened_by_transformers(folder), *SIZE)


def changed(folder: Path, place: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the folder with another configuration."""
    place.mkdir()
    for one in folder.iterdir():
        (place / one.name).write_bytes(one.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (place / "config.json").write_text(json.dumps(config))
    return place


def test_code_in_the_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    """What runs is this project's, whatever the file says; other code still needs trust."""
    copy = changed(folder, tmp_path / "copy", lambda config: None)
    (copy / "modeling_dino_detr.py").write_text("raise SystemExit('run')")
    assert type(adapter_of(copy).module).__module__ == dino_detr.__name__

    def other(config: dict[str, Any]) -> None:
        config["auto_map"]["AutoModelForObjectDetection"] = "other.DinoDetrForObjectDetection"

    with pytest.raises(UserError, match=r"runs its own code \(modeling_dino_detr.py, other.py\)"):
        adapter_of(changed(folder, tmp_path / "other", other))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decoder_layers", 4, "decoder.layers.3"),
        ("decoder_layers", 1001, "decoder_layers is 1,001; expected at most 1,000"),
        ("encoder_attention_heads", 5, r"has shape \(32,\), the model expects \(40,\)"),
        ("backbone_config", {"model_type": "nothing"}, 'backbone_config.model_type is "nothing"'),
        ("d_model", "wide", "cannot make the model"),
        ("soft_nms_iou_threshold", "0.8", r"copy/config.json: soft_nms_iou_threshold is '0.8'; "),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    copy = changed(folder, tmp_path / "copy", lambda config: config.update({key: value}))
    with pytest.raises(UserError, match=message) as refusal:
        adapter_of(copy)
    assert "\n" not in str(refusal.value)


def outputs(adapter: Adapter) -> tuple[Tensor, Tensor]:
    images = torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = adapter.forward({"pixel_values": images})
    return found.logits, found.pred_boxes


@pytest.mark.parametrize("backbone", ["ResNet", "Swin"])
def test_a_head_is_removed_exactly(request: pytest.FixtureRequest, backbone: str) -> None:
    """By its weights, as by zeros in place of what it gives to the output projection."""
    folder = request.getfixturevalue("folder" if backbone == "ResNet" else "swin_folder")
    with open_checkpoint(folder) as checkpoint:
        adapter = open_adapter(checkpoint)
        found = attentions(checkpoint.tensors, checkpoint.config)
        before = outputs(adapter)
        heads = [one.heads for one in found if "backbone" in one.prefix]
        assert heads == ([1, 1, 2, 2, 2, 4] if backbone == "Swin" else [])
        assert [one.heads for one in found if "backbone" not in one.prefix] == [HEADS] * (1 + 2 * 3)
        for one in found:
            if one.heads == 1:  # which is all of it
                continue
            (output,) = map(one.name_of, one.outputs)
            projection: Any = adapter.module.get_submodule(output.removesuffix(".weight"))
            width = projection.in_features // one.heads

            def silent(
                module: nn.Module, inputs: tuple[Tensor, ...], head: int = 1, width: int = width
            ) -> tuple[Tensor]:
                kept = inputs[0].clone()
                kept[..., head * width : (head + 1) * width] = 0
                return (kept,)

            with projection.register_forward_pre_hook(partial(silent)):
                silenced = outputs(adapter)
            weight = projection.weight.detach().clone()
            with torch.no_grad():
                projection.weight[:, width : 2 * width] = 0
            cut = outputs(adapter)
            with torch.no_grad():
                projection.weight.copy_(weight)
            (edit,) = one.remove([1])
            assert edit.tensor == output
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(cut, silenced, strict=True))
            moved, rounding = ((cut[0] - other[0]).abs().max() for other in (before, silenced))
            assert moved > 10 * rounding


def test_places_are_counted_within_the_image(folder: Path) -> None:
    """Of an image that is padded, tokens have the proposals and positions that they have alone."""
    model: Any = adapter_of(folder).module.model
    whole, padded = torch.ones(1, 6, 4, dtype=torch.bool), torch.zeros(1, 8, 10, dtype=torch.bool)
    padded[:, :6, :4] = True
    like = torch.zeros(1)

    def of_image(tokens: Tensor) -> Tensor:
        return tokens.unflatten(1, (8, 10))[:, :6, :4].flatten(1, 2)

    (alone, counts), (beside, counts_beside) = (
        dino_detr._proposals([mask], mask.flatten(1), like) for mask in (whole, padded)
    )
    assert torch.allclose(alone, of_image(beside))
    assert torch.equal(counts, of_image(counts_beside))
    assert counts_beside.sum() == counts.sum() == 24
    assert torch.allclose(
        model.positions([whole], like), of_image(model.positions([padded], like)), atol=1e-6
    )
    assert dino_detr._valid_ratio(padded).tolist() == [[pytest.approx(0.4), pytest.approx(0.75)]]


@pytest.mark.parametrize("offset", [0.0, -0.5])
def test_places_are_encoded_from_an_offset_on(offset: float) -> None:
    model: Any = random_dino(position_offset=offset).model
    mask = torch.ones(1, 3, 2, dtype=torch.bool)
    with torch.no_grad():
        found = (model.positions([mask], torch.zeros(1)) - model.level_embed[0])[0]
    half = WIDTH // 2
    for row, column, k in itertools.product(range(3), range(2), range(half)):
        for start, place, count, temperature in ((0, row, 3, 10), (half, column, 2, 20)):
            angle = (place + 1 + offset) / count * 2 * math.pi / temperature ** (k // 2 * 2 / half)
            wave = math.cos(angle) if k % 2 else math.sin(angle)
            assert found[2 * row + column, start + k] == pytest.approx(wave, abs=1e-5)


def test_every_parameter_learns(folder: Path) -> None:
    """By the loss of all layers and of the proposals."""
    model: Any = adapter_of(folder).module
    images = torch.randn(SIZE, generator=torch.Generator().manual_seed(1))
    label = {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4]])}
    out = model.train()(pixel_values=images, labels=[label, label])
    out.loss.backward()
    still = [name for name, one in model.named_parameters() if one.grad is None]
    assert not [name for name in still if "backbone" not in name]
    assert {"loss_ce", "loss_ce_proposals", "loss_bbox_0", "loss_giou_1"} <= set(out.loss_dict)


def test_commands(run: Run, folder: Path, tmp_path: Path) -> None:
    data = ("--shapes", "--limit", 2, "--class-names", tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("circle\nsquare\ntriangle\nstar\nother\n")
    sweep = ("sweep", folder, "--heads", "all", *data)
    run(*sweep, "-o", tmp_path / "replayed")
    run(*sweep, "-o", tmp_path / "full", "--no-replay")
    ledgers = [(tmp_path / name / "ledger.jsonl").read_text() for name in ("replayed", "full")]
    rows = [[json.loads(line) for line in ledger.splitlines()] for ledger in ledgers]
    assert len(rows[0]) == len(rows[1]) == 7 * HEADS + 1
    printed = run("knobs", folder, "--depth", "--queries", "3", *data)
    assert "depth 1" in printed
    assert "queries 3" in printed
    run("gradients", folder, *data, "--iterations", 1, "--batch-size", 1,
        "-o", tmp_path / "gradients")  # fmt: skip


def test_a_smaller_one_computes_what_the_cut_one_does(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    """``shrink`` holds outputs against each other before it writes anything."""
    run("shrink", folder, "--depth", 2, "-o", tmp_path / "shallow")
    assert adapter_of(tmp_path / "shallow").module.config.decoder_layers == 2
    run("heads", folder, "model.decoder.layers.*.self_attn", "--heads", 1, "-o", tmp_path / "cut")
    smaller = tmp_path / "smaller"
    run("shrink", folder, "--drop", tmp_path / "cut", "--with-code", "-o", smaller)
    with open_checkpoint(smaller) as checkpoint:
        shape = checkpoint.tensor("model.decoder.layers.0.self_attn.q_proj.weight").shape
        assert tuple(shape) == (WIDTH - WIDTH // HEADS, WIDTH)
        with pytest.raises(UserError, match=r"modeling_shrunk\.py"):
            open_adapter(checkpoint)
        open_adapter(checkpoint, trust_remote_code=True)
