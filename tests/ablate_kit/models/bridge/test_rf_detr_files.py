"""RF-DETR's files become Hugging Face folders that compute the same."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.opening.open import open_adapter

from .official_files import (
    LW_DETR_DECODER,
    Change,
    Renaming,
    arguments,
    bridged,
    computes_the_same,
    family,
    no_arguments,
    official,
    put,
    random_model,
    refused,
    renamed,
    save,
)

OUTPUTS, QUERIES, GROUPS = 4, 7, 2
ARCHITECTURE: dict[str, Any] = {
    "sa_nheads": 2, "ca_nheads": 4, "num_windows": 2, "patch_size": 8,
    "out_feature_indexes": [1, 3], "resolution": 64, "num_select": 7, "bbox_reparam": True,
}  # fmt: skip
CONFIG = {
    "model_type": "rf_detr",
    "backbone_config": {
        "model_type": "rf_detr_dinov2", "hidden_size": 128, "num_attention_heads": 2,
        "num_hidden_layers": 3, "mlp_ratio": 2, "image_size": 48, "patch_size": 8, "num_windows": 2,
        "out_features": ["stage1", "stage3"],
    },
    "d_model": 32,
    "layer_norm_eps": 1e-6,
    "c2f_num_blocks": 2,
    "decoder_layers": 2,
    "decoder_ffn_dim": 24,
    "decoder_n_points": 3,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 4,
    "num_queries": QUERIES,
    "group_detr": GROUPS,
    "num_labels": OUTPUTS,
}  # fmt: skip
NAMES: list[Renaming] = [
    (r"^model\.backbone\.backbone", "backbone.0.encoder.encoder"),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"^model\.backbone\.projector\.projector_layer", "backbone.0.projector.stages.0.0"),
    (r"^model\.backbone\.projector\.layer_norm", "backbone.0.projector.stages.0.1"),
    (r"(stages\.0\.0.*)conv([12])\.(conv|norm)", r"\1cv\2.\3"),
    (r"(stages\.0\.0.*cv[12])\.norm", r"\1.bn"),
    (r"\.bottlenecks\.", ".m."),
    *LW_DETR_DECODER,
]


def write(path: Path, change: Change | None = None) -> Any:
    module = random_model(CONFIG)
    save(path, official(module.state_dict(), NAMES), ARCHITECTURE, change)
    return module


def classes_of(folder: Path) -> tuple[str, ...]:
    names = json.loads((folder / "config.json").read_text())["id2label"]
    return tuple(names[str(i)] for i in range(len(names)))


def as_newer_versions_save_it(content: dict[str, Any]) -> None:
    content["args"] = {"dataset_file": "yolo", "class_names": ["cat", "dog", "horse"]}
    content["model_config"] = ARCHITECTURE
    content["model"]["_kp_active_mask"] = torch.zeros((0, 0), dtype=torch.bool)


@pytest.mark.parametrize("change", [None, as_newer_versions_save_it], ids=["old", "new"])
def test_the_folder_computes_the_same(tmp_path: Path, change: Change | None) -> None:
    module = write(tmp_path / "official.pth", change)
    bridged(tmp_path / "official.pth", tmp_path / "hf")
    assert family(tmp_path / "official.pth") == "roboflow/rf-detr"
    adapter = computes_the_same(tmp_path / "hf", module, 1, 3, 64, 64)
    prepared = adapter.prepare(np.zeros((30, 50, 3), np.uint8))
    assert prepared.inputs["pixel_values"].shape == (1, 3, 64, 64)
    with torch.no_grad():
        out = adapter.forward(prepared.inputs)
    assert len(adapter.decode(out, [prepared.origin])[0].scores) == QUERIES
    expected = ("cat", "dog", "horse", "N/A") if change else tuple(f"class_{i}" for i in range(4))
    assert adapter.classes == expected


def with_a(name: str) -> Change:
    return put(name, torch.ones(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_a("segmentation_head.bias"), "has masks"),
        (with_a("backbone.0.projector.stages.1.1.bias"), "several levels"),
        (with_a("backbone.0.projector.stages_sampling.0.0.0.bias"), "a level at another scale"),
        (with_a("transformer.decoder.bbox_embed.layers.0.bias"), "boxes refined by each layer"),
        (with_a("backbone.0.encoder.encoder.embeddings.register_tokens"), "has registers"),
        (with_a("_kp_active_mask"), '"_kp_active_mask" has no place'),
        (with_a("anything"), '"anything" has no place'),
        (renamed("transformer.enc_", "transformer.no_"), "has one stage"),
        (arguments(bbox_reparam=False), "bbox_reparam is False, which has no exact counterpart"),
        (arguments(resolution=16), "as 4 places, of which it proposes 7"),
        (arguments(resolution=72), "72 pixels are not 2 windows of patches of 8 pixels"),
        (arguments(num_select=3), r"3 detections of 7 queries \(num_select\) have no counterpart"),
        (arguments(num_select=50), "50 detections of 7 queries"),
        (arguments(out_feature_indexes=[3]), r"does not fit to the features of layers \[3\]"),
        (arguments(class_names=["cat", "dog"]), "has 4 outputs for 2 class names, and versions"),
        (no_arguments, "does not tell num_windows and out_feature_indexes; for patches of 8"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    write(tmp_path / "official.pth", change)
    refused(tmp_path / "official.pth", message)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    told = {"num_windows": 2, "out_feature_indexes": [1, 3]}

    def change(content: dict[str, Any]) -> None:
        content["args"] = argparse.Namespace(**told)

    write(tmp_path / "official.pth", change)
    assert bridged(tmp_path / "official.pth", tmp_path / "hf") == (
        "1 heads in each attention (--num-heads)",
        "2 heads in cross-attention (--set ca_nheads)",
        "boxes relative to the size of reference boxes",
        "48 pixels on a side of an image (--set resolution)",
        "names class_0 to class_3 (--class-names)",
        "100 detections of an image (--set num_select)",
    )


def test_more_detections_than_queries(tmp_path: Path) -> None:
    """They are the best pairs of a query and a class, of images that are prepared alike."""
    write(tmp_path / "few.pth")
    write(tmp_path / "many.pth", arguments(num_select=300))
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    found = {}
    for name in ("few", "many"):
        bridged(tmp_path / f"{name}.pth", tmp_path / name)
        with open_checkpoint(tmp_path / name) as checkpoint, torch.no_grad():
            adapter = open_adapter(checkpoint)
            prepared = adapter.prepare(image)
            out = adapter.forward(prepared.inputs)
            found[name] = prepared.inputs, out, adapter.decode(out, [prepared.origin])[0]
    (few, _, least), (many, out, most) = found["few"], found["many"]
    assert few.keys() >= {"pixel_values"}
    assert torch.equal(few["pixel_values"], many["pixel_values"])
    scores, places = out.logits.sigmoid().flatten().sort(descending=True)
    assert len(most.scores) == QUERIES * OUTPUTS
    np.testing.assert_array_equal(most.scores, scores.double().numpy())
    np.testing.assert_array_equal(most.labels, (places % OUTPUTS).numpy())
    np.testing.assert_array_equal(least.scores, most.scores[:QUERIES])
    np.testing.assert_allclose(least.boxes, most.boxes[:QUERIES], atol=1e-4)


def test_places_at_the_border_are_not_proposed(tmp_path: Path) -> None:
    """There are such where an image has 50 cells on a side or more: their centers lie outside."""
    head = "transformer.enc_out_class_embed.0"

    def change(content: dict[str, Any]) -> None:
        arguments(resolution=400)(content)
        tensors = content["model"]
        tensors[f"{head}.weight"] = torch.zeros_like(tensors[f"{head}.weight"])
        tensors[f"{head}.bias"] = torch.tensor([-4.0, -9.0, -9.0, -9.0])

    write(tmp_path / "official.pth", change)
    assert (
        "nothing is proposed at the border of the image, which scores 0.02 (the original does "
        "where fewer than 7 places score more)"
    ) in bridged(tmp_path / "official.pth", tmp_path / "hf")


@pytest.mark.parametrize(
    ("values", "given", "expected"),
    [
        ({"class_names": ["a", "b", "c", "d"]}, None, ("a", "b", "c", "d")),
        ({"class_names": {1: "a", 3: "c"}}, None, ("N/A", "a", "N/A", "c")),
        ({"class_names": ["a", "b"], "dataset_file": "yolo"}, None, ("a", "b", "N/A", "N/A")),
        # Fewer than there are outputs, they may count from 0 or from 1.
        ({"class_names": ["a", "b"]}, ("N/A", "a", "b"), ("N/A", "a", "b", "N/A")),
    ],
)
def test_class_names(
    tmp_path: Path, values: dict[str, Any], given: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    write(tmp_path / "official.pth", arguments(**values))
    names = ClassNames(given, by_id=True) if given else None
    bridged(tmp_path / "official.pth", tmp_path / "hf", classes=names)
    assert classes_of(tmp_path / "hf") == expected


def test_a_library_that_lacks_the_model_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import CONFIG_MAPPING

    write(tmp_path / "official.pth")
    monkeypatch.delitem(CONFIG_MAPPING._mapping, "rf_detr")
    refused(tmp_path / "official.pth", r"RfDetrForObjectDetection.* needs a newer transformers")
