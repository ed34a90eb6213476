"""torchvision's detectors, with random weights, against what torchvision makes of them."""

import re
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.torchvision import _class_names
from ablate_kit.models.frameworks.torchvision_builds import (
    Build,
    MisfitError,
    fitted,
    looks_like_one,
)
from ablate_kit.models.frameworks.torchvision_training import TorchvisionTraining
from ablate_kit.models.inference.detect import detect
from ablate_kit.models.opening.open import open_adapter
from detector.data.shapes import Shapes
from tests.ablate_kit.small_sweeps import adapter_of

from .zoo_models import SSD, image, saved, ssd

models = pytest.importorskip("torchvision.models")
detection = models.detection


def test_torchvision_detects_what_torchvision_detects(tmp_path: Path) -> None:
    net = ssd()
    adapter = adapter_of(saved(net, tmp_path), SSD)
    assert adapter.classes[:3] == ("N/A", "person", "bicycle")
    (found,) = detect(adapter, [image()])
    with torch.no_grad():
        (own,) = net([torch.from_numpy(image()).permute(2, 0, 1) / 255])
    order = np.argsort(-own["scores"].numpy(), kind="stable")
    assert len(found.scores) == len(order)
    np.testing.assert_array_equal(found.boxes, own["boxes"].numpy()[order].astype(np.float64))
    np.testing.assert_array_equal(found.labels, own["labels"].numpy()[order])


def test_the_number_of_classes_is_that_of_the_weights(tmp_path: Path) -> None:
    path = saved(ssd(5), tmp_path)
    assert adapter_of(path, SSD).classes == ("N/A", "class_1", "class_2", "class_3", "class_4")
    with pytest.raises(UserError, match="does not fit torchvision's fcos_resnet50_fpn"):
        adapter_of(path, "torchvision:fcos_resnet50_fpn")
    with pytest.raises(
        UserError, match=r'no detection model "ssd300".*did you mean "ssd300_vgg16"'
    ):
        adapter_of(path, "torchvision:ssd300")


def test_classes_are_those_of_the_published_weights_where_there_are_as_many() -> None:
    def names(name: str, classes: int, held: tuple[str, ...] | None = None) -> list[str]:
        return list(_class_names(Build(name, classes, None, {}), held))

    assert names("keypointrcnn_resnet50_fpn", 2) == ["N/A", "person"]
    assert names("keypointrcnn_resnet50_fpn", 91)[:2] == ["N/A", "class_1"]
    assert names("maskrcnn_resnet50_fpn", 91)[:2] == ["N/A", "person"]
    assert names("fcos_resnet50_fpn", 91)[:2] == ["N/A", "person"]
    assert names("retinanet_resnet50_fpn", 3) == ["class_0", "class_1", "class_2"]
    assert names("retinanet_resnet50_fpn", 2, ("a", "b")) == ["a", "b"]
    assert names("maskrcnn_resnet50_fpn", 3, ("a", "b")) == ["N/A", "a", "b"]


# How tensors were called in the releases that torchvision's first published weights are of.
_OLD_NAMES = (
    (r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"mask_head\.0\.0\.", "mask_head.mask_fcn1."),
    (r"mask_head\.1\.0\.", "mask_head.mask_fcn2."),
    (r"mask_head\.2\.0\.", "mask_head.mask_fcn3."),
    (r"mask_head\.3\.0\.", "mask_head.mask_fcn4."),
    (r"_head\.conv\.0\.0\.", "_head.conv.0."),
    (r"_head\.conv\.1\.0\.", "_head.conv.2."),
    (r"_head\.conv\.2\.0\.", "_head.conv.4."),
    (r"_head\.conv\.3\.0\.", "_head.conv.6."),
)


def published(name: str) -> dict[str, torch.Tensor]:
    """Weights as torchvision publishes them: old names, and statistics of a frozen batch
    normalization, which counts no batches; one of them so small that an epsilon matters."""
    classes = 2 if name.startswith("keypoint") else 91
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
        found = {}
        for key, tensor in net.state_dict().items():
            if key.endswith(("cls_score.bias", "head.cls_logits.bias")):
                tensor = 2 * torch.randn(tensor.shape)  # so that there are detections
            if ".inner_blocks." in key:
                tensor = tensor / 1000  # features as large as those of a trained backbone
            if key.endswith("running_var"):
                tensor = 10 ** (torch.rand(tensor.shape) - 0.5)
                if key.startswith("backbone.body.bn1."):
                    tensor[0] = 1e-4
            for pattern, old in _OLD_NAMES:
                key = re.sub(pattern, old, key)
            if not key.endswith("num_batches_tracked"):
                found[key] = tensor.clone()
    return found


@pytest.mark.parametrize(
    "name",
    ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn",
     "retinanet_resnet50_fpn", "fcos_resnet50_fpn"],
)  # fmt: skip
def test_published_weights_detect_what_torchvision_makes_of_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = published(name)
    torch.save(weights, tmp_path / "published.pth")
    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", lambda *_, **__: dict(weights))
    net = models.get_model(name, weights="COCO_V1").eval()
    with open_checkpoint(tmp_path / "published.pth") as checkpoint:
        adapter = open_adapter(checkpoint)
        assert adapter.live_names().keys() == checkpoint.tensors.keys()
    outputs = adapter.forward(adapter.prepare(image()).inputs)
    assert set(outputs[0]) == {"boxes", "scores", "labels"}  # masks and key points are left out
    (found,) = detect(adapter, [image()])
    with torch.no_grad():
        (own,) = net([torch.from_numpy(image()).permute(2, 0, 1) / 255])
    order = np.argsort(-own["scores"].numpy(), kind="stable")[: len(found.scores)]
    assert len(order) > 0
    np.testing.assert_array_equal(found.boxes, own["boxes"].numpy()[order].astype(np.float64))
    np.testing.assert_array_equal(found.scores, own["scores"].numpy()[order].astype(np.float64))
    np.testing.assert_array_equal(found.labels, own["labels"].numpy()[order])


@pytest.mark.parametrize(
    ("arguments", "epsilon"),
    [
        ({}, 0),
        ({"weights": None}, 1e-5),
        ({"weights": "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"}, 0),
        ({"pretrained": False}, 1e-5),
    ],
)
def test_arguments_of_training_tell_of_the_epsilon(
    arguments: dict[str, Any], epsilon: float, tmp_path: Path
) -> None:
    weights = published("fasterrcnn_resnet50_fpn")
    torch.save({"model": weights, "args": Namespace(**arguments)}, tmp_path / "model.pth")
    module = adapter_of(tmp_path / "model.pth").module
    assert module.get_submodule("backbone.body.bn1").eps == epsilon
    weights["backbone.body.bn1.running_var"][0] = 0  # by which nothing is divided
    torch.save({"model": weights, "args": Namespace(**arguments)}, tmp_path / "dead.pth")
    module = adapter_of(tmp_path / "dead.pth").module
    assert module.get_submodule("backbone.body.bn1").eps == 1e-5


def test_every_detector_of_torchvision_is_told_by_its_tensors(tmp_path: Path) -> None:
    names = models.list_models(module=detection)
    for name in names:
        with torch.device("meta"):
            net = models.get_model(name, weights=None, weights_backbone=None, num_classes=4)
        shapes = {key: tuple(one.shape) for key, one in net.state_dict().items()}
        assert looks_like_one(shapes)
        fits = []
        for other in names:
            with suppress(MisfitError):
                fits.append(fitted(other, shapes))
        assert name in [one.name for one in fits]
        assert {one.classes for one in fits} == {4}
        alike = len(fits) - 1
        assert alike == (1 if "mobilenet_v3_large" in name and "fasterrcnn" in name else 0)


def test_of_two_that_fit_the_file_or_the_user_tells(tmp_path: Path) -> None:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=4)
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    torch.save(
        {"model": net.state_dict(), "args": Namespace(model=name), "classes": ["a", "b", "c"]},
        tmp_path / "training.pth",
    )
    with (
        open_checkpoint(tmp_path / "bare.pth") as bare,
        pytest.raises(UserError, match=f"{name} or fasterrcnn_mobilenet_v3_large_fpn, whose tens"),
    ):
        open_adapter(bare)
    found = adapter_of(tmp_path / "training.pth")
    assert found.module.transform.min_size == (320,)
    assert found.classes == ("N/A", "a", "b", "c")


def test_a_detector_of_other_parts_names_what_is_nearest(tmp_path: Path) -> None:
    backbone = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    net = detection.FasterRCNN(backbone, num_classes=3)
    torch.save(net.state_dict(), tmp_path / "other.pth")
    with (
        open_checkpoint(tmp_path / "other.pth") as checkpoint,
        pytest.raises(
            UserError,
            match=r"none of its models: fasterrcnn_resnet50_fpn is.*--model python:FILE.py",
        ),
    ):
        open_adapter(checkpoint)


def test_key_points_are_as_many_as_the_weights_are_of(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = models.get_model(
            "keypointrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_keypoints=5
        )
    shapes = {key: tuple(one.shape) for key, one in net.state_dict().items()}
    assert fitted("keypointrcnn_resnet50_fpn", shapes).keypoints == 5


def test_training_is_by_torchvision_s_own_losses(tmp_path: Path) -> None:
    data = Shapes(3, seed=2, size=96)
    adapter = adapter_of(saved(ssd(len(data.classes) + 1), tmp_path), SSD)
    adapter.classes = ("N/A", *data.classes)
    training = TorchvisionTraining(adapter, data, {"batch_size": 2, "lr": 1e-4, "seed": 0})
    batch = next(training.batches())
    training.model.train()
    loss, terms = training.losses(batch, 0)
    net = ssd(len(data.classes) + 1).train()
    own = net(
        [torch.tensor(data.image(i)).permute(2, 0, 1) / 255 for i in batch],
        [
            {
                "boxes": torch.tensor(data.annotations(i).boxes).float(),
                "labels": torch.tensor(data.annotations(i).labels).long() + 1,
            }
            for i in batch
        ],
    )
    assert {name: one.item() for name, one in terms.items()} == {
        name: one.item() for name, one in own.items()
    }
    assert loss.item() == pytest.approx(sum(one.item() for one in own.values()))
    with pytest.raises(UserError, match="3 images do not fill a batch of 4"):
        TorchvisionTraining(adapter, data, {"batch_size": 4, "lr": 1e-4, "seed": 0})


def test_what_boxes_do_not_train_is_refused() -> None:
    with torch.device("meta"):
        net = models.get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    adapter: Any = Namespace(module=net, classes=("N/A", "disc"))
    with pytest.raises(UserError, match="MaskRCNN has a mask_roi_pool, which boxes do not train"):
        TorchvisionTraining(adapter, Shapes(3), {"batch_size": 2, "lr": 1e-4, "seed": 0})
