"""Files of detectors whose code is elsewhere: the line says whose they are, and how they run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.opening.framework_registry import choose

LAYER = "transformer.encoder.layers.0"
OWN = "to run it, build it with its own code: --model python:"
# Names as the repositories' own files have them.
FILES = {
    "LoRA": (
        ("base_model.model.backbone.conv.weight", "base_model.model.q_proj.lora_A.default.weight"),
        "an adapter of PEFT, .* to run it, merge it into that model",
    ),
    "IA3": (
        ("base_model.model.q_proj.base_layer.weight", "base_model.model.q_proj.ia3_l.default"),
        "an adapter of PEFT, .* to run it, merge it into that model",
    ),
    "detrex DINO": (
        (f"{LAYER}.attentions.0.value_proj.weight", "backbone.stem.conv1.weight"),
        f"detrex, .* {OWN}",
    ),
    "detrex DETR": (
        (f"{LAYER}.attentions.0.attn.in_proj_weight", "backbone.conv1.weight"),
        f"detrex, .* {OWN}",
    ),
    "Co-DETR": (
        ("query_head.transformer.level_embeds", "rpn_head.rpn_conv.weight"),
        "Co-DETR in MMDetection, .* to run it, give --model mmdet:CONFIG.py",
    ),
    "Grounding DINO": (
        (
            "module.bert.embeddings.word_embeddings.weight",
            "module.transformer.encoder.fusion_layers.0.attn.v_proj.weight",
        ),
        "Grounding DINO's repository; .* take the same weights as a folder of transformers",
    ),
    "YOLO-World": (
        ("backbone.image_model.stem.conv.weight", "bbox_head.head_module.cls_preds.0.0.weight"),
        "MMYOLO, as YOLO-World has them; .* give --model mmdet:CONFIG.py --trust-remote-code",
    ),
    "Relation DETR": (
        ("denoising_generator.label_encoder.weight", "transformer.decoder.class_head.0.weight"),
        f"Relation DETR's or Salience DETR's repository; .* {OWN}",
    ),
    "MMDetection 2": (
        (f"bbox_head.{LAYER}.attentions.0.attn.in_proj_weight",),
        f"MMDetection 2, .* {OWN}",
    ),
    "Faster R-CNN of Detectron2": (
        ("backbone.bottom_up.stem.conv1.weight", "roi_heads.box_predictor.cls_score.weight"),
        f"Detectron2; .* {OWN}",
    ),
    "C4 of Detectron2": (
        ("backbone.stem.conv1.weight", "proposal_generator.rpn_head.conv.weight"),
        f"Detectron2; .* {OWN}",
    ),
    "YOLOX": (
        ("backbone.backbone.dark2.0.conv.weight", "head.cls_preds.0.weight"),
        "YOLOX; .* to run it, give --model libreyolo:yolox",
    ),
    "YOLOv8": (
        ("model.0.conv.weight", "model.22.cv2.0.0.conv.weight", "model.22.dfl.conv.weight"),
        "Ultralytics, .* give --model libreyolo, .* or build it with its own code",
    ),
    "YOLOv5": (
        ("model.model.0.conv.weight", "model.model.24.m.0.weight"),
        "Ultralytics, .* give --model libreyolo, .* or build it with its own code",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_line_says_what_it_is(tmp_path: Path, name: str) -> None:
    names, message = FILES[name]
    path = tmp_path / "model.pth"
    torch.save({one: torch.ones(2, 2) for one in names}, path)
    with open_checkpoint(path) as checkpoint:
        for refuses in (choose, to_transformers):
            with pytest.raises(UserError, match=f"has the names of {message}") as refusal:
                refuses(checkpoint)
            assert "\n" not in str(refusal.value)
            assert len(str(refusal.value).replace(str(path), "")) < 300  # of which none is cut


def test_what_is_known_of_no_repository_is_said_to_be_unknown(tmp_path: Path) -> None:
    torch.save({"roi_heads.box_head.weight": torch.ones(2), "x": torch.ones(2)}, tmp_path / "a.pth")
    with open_checkpoint(tmp_path / "a.pth") as checkpoint:
        with pytest.raises(UserError, match="of no framework that is recognized"):
            choose(checkpoint)
        with pytest.raises(UserError, match="no file of an official repository"):
            to_transformers(checkpoint)


@pytest.mark.parametrize("around", [torch.nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_a_whole_module_is_called_by_the_class_inside_what_wraps_it(
    tmp_path: Path, around: Callable[[torch.nn.Module], torch.nn.Module]
) -> None:
    torch.save(around(torch.nn.Linear(2, 2)), tmp_path / "a.pth")
    message = r"is a whole module of the class torch\.nn\.modules\.linear\.Linear; .* say how"
    with open_checkpoint(tmp_path / "a.pth") as one, pytest.raises(UserError, match=message):
        choose(one)


def test_of_a_whole_module_of_transformers_the_folder_is_asked_for(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])
    torch.save(transformers.ResNetModel(config), tmp_path / "a.pth")
    message = r"ResNetModel; .* give --model transformers:FOLDER, the folder of its config\.json"
    with open_checkpoint(tmp_path / "a.pth") as one, pytest.raises(UserError, match=message):
        choose(one)


def test_whole_modules_are_not_converted_either(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    message = "is a whole module of the class torch.nn"
    with open_checkpoint(tmp_path / "a.pth") as one, pytest.raises(UserError, match=message):
        to_transformers(one)
