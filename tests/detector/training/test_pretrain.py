"""Pretraining end to end: it learns, resumes to the bit, and leaves files that can be grafted."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from detector.data.augmentation.image_transforms import CenterCrop
from detector.data.classification import ImageFolders, ShapeCrops
from detector.data.formats.voc import Voc
from detector.errors import UserError
from detector.network.model import HybridDetector
from detector.training.classification_task import classification_trainer
from detector.training.ema import ema_decay
from detector.training.optim import learning_rate_factor
from detector.training.recipes.pretrain_recipe import PretrainRecipe, load_pretrain_recipe
from detector.training.recipes.recipe_file import Given, validated
from detector.training.trainer import Trainer
from tests.small_runs import KilledError, Silent

MODEL = {
    "preset": "tiny", "widths": [16, 32, 16, 16], "depths": [1, 1, 1, 1], "d_model": 32,
    "neck_repeats": 1, "drop_path": 0.2,
}  # fmt: skip
AUGMENTATION = {"image_size": 64, "val_resize": 72}
MIXING = [{"begin": 0.3, "probability": 0.9, "mixup": 0.5, "cutmix": 1.0}]


def recipe(**sections: Any) -> PretrainRecipe:
    training = {
        "epochs": 3, "batch_size": 4, "lr": 2e-3, "mixing": MIXING, "ema": 0.9, "seed": 7,
    } | sections.pop("training", {})  # fmt: skip
    values = {
        "model": MODEL, "data": {"kind": "shapes"}, "augmentation": AUGMENTATION,
        "training": training, **sections,
    }  # fmt: skip
    return validated(PretrainRecipe, Given(values, "test", {}))


def pretrainer(folder: Path, count: int = 18, **sections: Any) -> Trainer:
    return classification_trainer(
        recipe(**sections), ShapeCrops(count), ShapeCrops(6, split=1), folder
    )


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def test_the_loss_falls_and_the_images_are_learned(tmp_path: Path) -> None:
    plain = {
        "image_size": 64, "val_resize": 64, "area": [1.0, 1.0], "flip": 0.0, "randaugment": None,
        "color_jitter": None, "erase": 0.0,
    }  # fmt: skip
    progress = Silent()
    run = classification_trainer(
        recipe(augmentation=plain, model={**MODEL, "drop_path": 0.0},
               training={"epochs": 20, "mixing": [], "lr": 5e-3, "label_smoothing": 0.0}),
        ShapeCrops(8), ShapeCrops(8), tmp_path,
    )  # fmt: skip
    run.run(progress)
    losses = [record["train_loss"] for record in progress.records]
    assert losses[-1] < 0.5 * losses[0]
    assert run.state.best > 40  # of 8 classes


def test_crops_of_photographs_in_folders_are_learned(shared: Path, tmp_path: Path) -> None:
    """One folder per class: aeroplanes and cats, cut out of PASCAL VOC's images by their boxes."""
    voc = Voc(shared / "data/voc", "2007:train")
    wanted = dict.fromkeys(("aeroplane", "cat"), 6)
    for i in range(len(voc)):
        objects = voc.annotations(i)
        for box, label in zip(objects.boxes, objects.labels, strict=True):
            name, (x0, y0, x1, y1) = voc.classes[label], box.round().astype(int).tolist()
            if wanted.get(name) and min(x1 - x0, y1 - y0) >= 60:
                wanted[name] -= 1
                for split in ("train", "val"):
                    folder = tmp_path / split / name
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(voc.image(i)[y0:y1, x0:x1]).save(folder / f"{i}-{x0}.png")
    assert not any(wanted.values())
    data = {kind: str(tmp_path / kind) for kind in ("train", "val")} | {"kind": "folder"}
    plain = AUGMENTATION | {"area": [0.8, 1.0], "randaugment": None, "color_jitter": None,
                            "erase": 0.0}  # fmt: skip
    options = {"epochs": 12, "mixing": [], "lr": 5e-3, "label_smoothing": 0.0}
    made = recipe(augmentation=plain, data=data, training=options)
    training, validation = made.data.splits()
    assert tuple(training.classes) == ("aeroplane", "cat")
    progress = Silent()
    run = classification_trainer(made, training, validation, tmp_path / "run")
    run.run(progress)
    losses = [record["train_loss"] for record in progress.records]
    assert losses[-1] < 0.8 * losses[0]
    assert run.state.best > 60  # percent, of two classes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    pretrainer(folder).run(Silent())
    return folder


@pytest.mark.parametrize(("workers", "killed", "continued"), [(0, (2, 3), 2), (2, (3, 1), 0)])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    whole: Path, tmp_path: Path, workers: int, killed: tuple[int, int], continued: int
) -> None:
    """In the middle of an epoch, with drop paths, mixing and all augmentation."""
    training = {"save_every": 2, "workers": workers}
    with pytest.raises(KilledError):
        pretrainer(tmp_path, training=training).run(Silent(killed))
    resumed = Silent()
    torch.manual_seed(1)  # whatever the program did before
    pretrainer(tmp_path, training=training).run(resumed, resume=True)
    assert resumed.starts[0] == continued
    for name in ("latest.pth", "best.pth"):
        one, other = load(whole / name), load(tmp_path / name)
        for run in (one, other):
            del run["history"]["train_seconds"], run["history"]["data_wait"]
            del run["recipe"], run["seconds"]
        assert equal(one, other), name
    for name in ("pretrained_backbone_neck.safetensors", "pretrained_backbone_neck.pth"):
        assert (whole / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_rate_and_the_average_follow_their_formulas(tmp_path: Path) -> None:
    run = pretrainer(tmp_path, training={"warmup_epochs": 1.0, "save_every": 1})
    seen: list[list[float]] = []
    average = copy.deepcopy(run.model.state_dict())

    class Watch(Silent):
        def batch(self, loss: float | None) -> None:
            seen.append([group["lr"] for group in run.optimizer.param_groups])
            d = ema_decay(len(seen) - 1, 0.9)
            for name, value in run.model.state_dict().items():
                average[name] = d * average[name] + (1 - d) * value

    run.run(Watch())
    assert len(seen) == 12  # 3 epochs of 18 // 4 batches
    rates = [2e-3 * run.recipe.multipliers()[g["name"].removesuffix(".decay")]
             for g in run.optimizer.param_groups]  # fmt: skip
    for step, lrs in enumerate(seen):
        factor = learning_rate_factor(step, 4, 12, 0.01, 0.01)
        assert lrs == pytest.approx([rate * factor for rate in rates], rel=1e-12)
    assert seen[0][0] < 0.02 * seen[4][0]  # the warm-up warms up
    torch.testing.assert_close(dict(load(tmp_path / "latest.pth")["ema"]), average)


def test_every_tensor_is_in_one_group_and_only_matrices_decay(tmp_path: Path) -> None:
    run = pretrainer(tmp_path)
    grouped = [id(p) for group in run.optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in run.model.parameters())
    decays = {id(p): group["weight_decay"] for group in run.optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    named = dict(run.model.named_parameters())
    assert decays[id(named["backbone.stage0.0.conv.weight"])] == 0.02
    assert decays[id(named["backbone.down1.norm.weight"])] == 0  # the thesis' poison
    assert decays[id(named["classifier.0.weight"])] == 0.02
    assert decays[id(named["neck.keep.0.weight"])] == 0


def test_special_initializations_are_the_detectors(tmp_path: Path) -> None:
    run = pretrainer(tmp_path, model={**MODEL, "neck_repeats": 2})
    detector = HybridDetector(run.config, seed=7).state_dict()
    ours = {k: v for k, v in run.model.state_dict().items() if not k.startswith("classifier.")}
    assert same(ours, {name: detector[name] for name in ours})
    assert not ours["neck.repeats.0.top_fuse.0.proj.weight"].any()
    assert ours["neck.upsample.0.edge.weight"][3, 0].tolist() == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    assert 0.008 < ours["backbone.stage1.0.deform.offset_mask.weight"].std() < 0.012
    left_out = {name for name in detector if name.startswith(("backbone.", "neck."))} - set(ours)
    assert len(left_out) == 6
    assert all("dense_heads" in name for name in left_out)


def test_the_accuracy_is_that_of_the_exported_weights(whole: Path, tmp_path: Path) -> None:
    best, images = load(whole / "best.pth"), ShapeCrops(6, split=1)
    model = pretrainer(tmp_path).model.eval()
    transform = CenterCrop(64, 72)
    found = {}
    for kind in ("model", "ema"):
        model.load_state_dict(best[kind])
        hits, losses = [], []
        for i in range(6):
            with torch.no_grad():
                logits, levels = model(transform(images.image(i))[None])
            assert levels == []
            hits.append(float(logits.argmax() == images.label(i)))
            losses.append(F.cross_entropy(logits, torch.tensor([images.label(i)])).item())
        found[kind] = (100 * np.mean(hits), np.mean(losses))
    history, last = best["history"], best["epoch"] - 1
    for kind, name in (("model", ""), ("ema", "_ema")):
        measured = (history[f"val_accuracy{name}"][last], history[f"val_loss{name}"][last])
        assert measured == pytest.approx(found[kind], abs=1e-4)
    old = load(whole / "pretrained_backbone_neck.pth")
    assert old["accuracy"] == best["best_accuracy"] == pytest.approx(found["ema"][0])
    weights = safetensors.torch.load_file(whole / "pretrained_backbone_neck.safetensors")
    assert same(weights, {k: v for k, v in best["ema"].items() if not k.startswith("classifier.")})
    history = json.loads((whole / "history.json").read_text())
    assert best["best_accuracy"] == max(history["val_accuracy_ema"])


def test_the_export_says_what_it_is(whole: Path) -> None:
    exported = whole / "pretrained_backbone_neck.safetensors"
    old = load(exported.with_suffix(".pth"))
    assert list(old) == [
        "backbone_state_dict", "neck_state_dict", "accuracy", "model_type", "is_ema",
        "architecture_config", "training_config", "info",
    ]  # fmt: skip
    assert (old["model_type"], old["is_ema"]) == ("backbone_and_neck", True)
    assert "st0.0.conv3.weight" in old["backbone_state_dict"]
    assert "fuse2_top.0.proj.weight" in old["neck_state_dict"]
    assert old["architecture_config"] == {
        "depths": [1, 1, 1, 1], "drop_path_max": 0.2, "norm": "gn", "use_layer_scale": True,
        "layer_scale_init": 1.0, "backbone_channels": [16, 32, 16, 16], "d_model": 32,
        "include_neck": True, "multi_head": True,
    }  # fmt: skip
    assert old["training_config"]["batch_size"] == 4
    with safetensors.safe_open(exported, "pt") as file:
        about = json.loads(file.metadata()["pretraining"])
    assert about == {k: v for k, v in old.items() if not k.endswith("_state_dict")}
    config = json.loads((whole / "config.json").read_text())
    assert config["model_config"] == {"num_classes": 8, **old["architecture_config"]}
    assert config["training_config"] == old["training_config"]
    assert len(config["model_config"]) == len(config["training_config"]) == 10


def test_without_neck_average_and_level_heads(tmp_path: Path) -> None:
    model = {
        name: value for name, value in MODEL.items() if name not in ("d_model", "neck_repeats")
    }
    run = pretrainer(
        tmp_path, model=model, classifier={"neck": False, "multi_head": False},
        training={"ema": None, "epochs": 1},
    )  # fmt: skip
    exported = run.run(Silent())
    old = load(exported.with_suffix(".pth"))
    assert (old["neck_state_dict"], old["model_type"], old["is_ema"]) == (
        None, "backbone_only", False)  # fmt: skip
    latest = load(tmp_path / "latest.pth")
    assert "ema" not in latest
    assert latest["model"]["classifier.0.weight"].shape == (8, 16 + 32 + 16 + 16)
    assert "val_accuracy_ema" not in latest["history"]
    assert load_pretrain_recipe(tmp_path / "recipe.yaml") == run.recipe


def test_schedules_change_what_is_computed(tmp_path: Path) -> None:
    ends = []
    for i, training in enumerate(
        (
            {},
            {"mixing": []},
            {"auxiliary": [{"begin": 0.5, "weights": [1.0, 1.0, 1.0, 1.0]}]},
            {"label_smoothing": 0.0},
            {"clip_offsets": 1e-4},
            {"precision": "bf16"},
        )
    ):
        run = pretrainer(tmp_path / str(i), count=8, training={"epochs": 2, **training})
        run.run(Silent())
        ends.append(run.model.state_dict()["backbone.stem.conv1.weight"].clone())
    for i, end in enumerate(ends):
        assert not any(torch.equal(end, other) for other in ends[:i])


def test_the_loss_is_the_weighted_sum_over_the_levels(tmp_path: Path) -> None:
    run = pretrainer(tmp_path, training={"mixing": [], "label_smoothing": 0.1})
    run.model.eval()
    images, labels = torch.randn(5, 3, 64, 64), torch.tensor([0, 3, 7, 3, 1])
    features = run.model.neck(run.model.backbone(images)[0])
    logits = [head(x.mean((2, 3))) for head, x in zip(run.model.classifier, features, strict=True)]
    main = (logits[2] + logits[3]) / 2

    def entropy(scores: Tensor) -> Tensor:
        wanted = torch.full((5, 8), 0.1 / 8)
        wanted[range(5), labels] += 0.9
        return -(wanted * scores.log_softmax(1)).sum(1).mean()

    run.model.training = True  # the heads of all levels, and yet no drop path
    expected = entropy(main) + sum(
        w * entropy(x) for w, x in zip((0.3, 0.5, 0.5, 0.3), logits, strict=True)
    )
    terms = run.task.losses(run.network, (images, labels), 0, 0)
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["accuracy"] == 100 * (main.argmax(1) == labels).float().mean()


def test_a_run_does_not_resume_on_other_images(tmp_path: Path) -> None:
    """As many of as many classes, and yet others: files of another name, or in another class."""

    def folders(place: Path, names: str) -> ImageFolders:
        for kind in "ab":
            (place / kind).mkdir(parents=True)
            for name in names:
                Image.new("RGB", (8, 8), "red").save(place / kind / f"{name}.png")
        return ImageFolders(place)

    images, others = folders(tmp_path / "one", "123456789"), folders(tmp_path / "two", "12345678x")
    moved = folders(tmp_path / "moved", "123456789")

    def trainer(training: ImageFolders, validation: ImageFolders) -> Trainer:
        return classification_trainer(
            recipe(training={"epochs": 1}), training, validation, tmp_path / "run"
        )

    trainer(images, images).run(Silent())
    trainer(moved, images).run(Silent(), resume=True)
    with pytest.raises(UserError, match="is of other training images"):
        trainer(others, images).run(Silent(), resume=True)
    with pytest.raises(UserError, match="is of other validation images"):
        trainer(images, others).run(Silent(), resume=True)


def test_mistakes_around_a_run_are_named(tmp_path: Path) -> None:
    pretrainer(tmp_path, training={"epochs": 1}).run(Silent())
    with pytest.raises(UserError, match=r"trained with training\.epochs 1, the recipe says 3"):
        pretrainer(tmp_path).run(Silent(), resume=True)
    (tmp_path / "latest.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not the checkpoint of a pretraining run"):
        pretrainer(tmp_path, training={"epochs": 1}).run(Silent(), resume=True)
