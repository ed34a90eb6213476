"""Images with one class each, from folders, a hub data set, and the built-in shapes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data.classification import First, HuggingFaceImages, ImageFolders, ShapeCrops
from detector.data.formats.voc import Voc
from detector.data.shapes import Shapes
from detector.errors import UserError


def paint(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value, 0, 0)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for i, name in enumerate(("dog/b.png", "dog/a.png", "dog/more/c.PNG", "cat/x.png")):
        paint(tmp_path / "train" / name, i)
    (tmp_path / "train" / "dog" / "notes.txt").write_text("no image")
    return tmp_path


def test_folders_are_classes(folders: Path) -> None:
    images = ImageFolders(folders / "train")
    assert images.classes == ("cat", "dog")
    assert [images.label(i) for i in range(len(images))] == [0, 1, 1, 1]
    assert [int(images.image(i)[0, 0, 0]) for i in range(4)] == [3, 1, 0, 2]  # by path
    assert images.image(0).shape == (6, 8, 3)


def test_labels_are_those_of_the_training_folders(folders: Path) -> None:
    paint(folders / "val" / "dog" / "1.png", 9)
    images = ImageFolders(folders / "val", ("cat", "dog"))
    assert (images.classes, images.label(0)) == (("cat", "dog"), 1)


def test_mistakes_in_folders_are_named(folders: Path) -> None:
    with pytest.raises(UserError, match="no such folder; expected one folder per class"):
        ImageFolders(folders / "nothing")
    with pytest.raises(UserError, match="holds no folders"):
        ImageFolders(folders / "train" / "cat")
    with pytest.raises(UserError, match=r'"dog" is no class .* did you mean "dogs"'):
        ImageFolders(folders / "train", ("cat", "dogs"))
    (folders / "train" / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no images; expected files \.jpg"):
        ImageFolders(folders / "train")
    (folders / "train" / "empty" / "a.jpg").write_text("no image")
    broken = ImageFolders(folders / "train")
    with pytest.raises(UserError, match=r"a\.jpg: image does not decode"):
        broken.image(4)


def test_the_first_of_each_class(folders: Path) -> None:
    images = First(ImageFolders(folders / "train"), 2)
    assert [images.label(i) for i in range(len(images))] == [0, 1, 1]
    assert [int(images.image(i)[0, 0, 0]) for i in range(3)] == [3, 1, 0]


def test_shapes_are_crops_around_the_largest_object() -> None:
    crops, shapes = ShapeCrops(12, seed=3, split=2), Shapes(12, seed=3, split=2)
    for i in range(12):
        objects, whole, crop = shapes.annotations(i), shapes.image(i), crops.image(i)
        largest = int(np.argmax([(b[2] - b[0]) * (b[3] - b[1]) for b in objects.boxes]))
        assert crops.label(i) == objects.labels[largest]
        side = crop.shape[0]
        assert crop.shape == (side, side, 3)
        places = [
            (x, y)
            for y in range(161 - side)
            for x in range(161 - side)
            if np.array_equal(whole[y, x : x + 3], crop[0, :3])
            and np.array_equal(whole[y : y + side, x : x + side], crop)
        ]
        ((x, y),) = places
        x0, y0, x1, y1 = objects.boxes[largest]
        assert x <= x0 + 1
        assert y <= y0 + 1
        assert x + side >= x1 - 1
        assert y + side >= y1 - 1
    counts = np.bincount([ShapeCrops(400).label(i) for i in range(400)], minlength=8)
    assert counts.min() > 25


def test_crops_of_photographs_as_folders(shared: Path, tmp_path: Path) -> None:
    voc = Voc(shared / "data" / "voc" / "VOCdevkit", "2007:train")
    for i in range(6):
        objects, image = voc.annotations(i), Image.fromarray(voc.image(i))
        for j, (box, label) in enumerate(zip(objects.boxes, objects.labels, strict=True)):
            path = tmp_path / voc.classes[label] / f"{i}-{j}.jpg"
            path.parent.mkdir(exist_ok=True)
            image.crop(tuple(int(x) for x in box)).save(path)
    images = ImageFolders(tmp_path)
    assert set(images.classes) <= set(voc.classes)
    assert len(images) == sum(len(voc.annotations(i)) for i in range(6))
    assert all(images.image(i).dtype == np.uint8 for i in range(len(images)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder in the layout of the hub, with a train and a validation split."""
    pytest.importorskip("datasets", reason="the extra imagenet is not installed")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    (tmp_path / "set").mkdir()
    for split, labels in (("train", [1, 0, 1]), ("validation", [0])):
        pictures = [Image.new("L" if i == 1 else "RGB", (5, 4), i) for i in range(len(labels))]
        rows = datasets.Dataset.from_dict({"image": pictures, "label": labels}, features)
        rows.to_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "set"


def test_a_hub_data_set(hub: Path) -> None:
    images = HuggingFaceImages(str(hub), "train")
    assert images.classes == ("cat", "dog")
    assert [images.label(i) for i in range(len(images))] == [1, 0, 1]
    assert images.image(1).shape == (4, 5, 3)  # gray becomes RGB
    assert images.image(1)[0, 0].tolist() == [1, 1, 1]
    assert len(HuggingFaceImages(str(hub), "validation")) == 1
    with pytest.raises(UserError, match=re.escape('no column "img", but image, label')):
        HuggingFaceImages(str(hub), "train", image="img")
    with pytest.raises(UserError, match='cannot load the split "test"'):
        HuggingFaceImages(str(hub), "test")
    with pytest.raises(UserError, match=r"cannot load the split .*nothing"):
        HuggingFaceImages(str(hub / "nothing"), "train")


def _written(hub: Path, split: str, labels: Sequence[object], feature: Any = None) -> str:
    """A set with one more split."""
    import datasets

    pictures = [Image.new("RGB", (5, 4))] * len(labels)
    features = {"image": datasets.Image(), "label": feature or datasets.ClassLabel(names=["dog"])}
    rows = datasets.Dataset.from_dict(
        {"image": pictures, "label": list(labels)}, datasets.Features(features)
    )
    folder = hub.parent / split
    folder.mkdir()
    rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def test_labels_of_a_later_split_are_matched_by_name(hub: Path) -> None:
    dogs = HuggingFaceImages(_written(hub, "test", [0, 0]), "test", classes=("cat", "dog"))
    assert dogs.classes == ("cat", "dog")
    assert [dogs.label(i) for i in range(2)] == [1, 1]
    with pytest.raises(UserError, match='"dog" is no class of the training images'):
        HuggingFaceImages(str(hub.parent / "test"), "test", classes=("cat", "bird"))


def test_labels_without_names(hub: Path) -> None:
    import datasets

    texts = _written(hub, "train", ["b", "a", "b"], datasets.Value("string"))
    images = HuggingFaceImages(texts, "train")
    assert (images.classes, images.label(0), images.label(1)) == (("a", "b"), 1, 0)
    numbers = _written(hub, "validation", [2, 0], datasets.Value("int32"))
    assert HuggingFaceImages(numbers, "validation").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        ([0, -1], None, r"image 1 is -1 \(of a split without labels\?\); expected numbers"),
        ([0, None], "int32", r"image 1 is None \(of a split without labels"),
        ([0.5], "float32", r"image 0 is 0\.5; expected numbers from 0, or names"),
        (["a", None], "string", r"image 1 is None"),
    ],
)
def test_labels_that_are_none(
    hub: Path, labels: list[object], kind: str | None, words: str
) -> None:
    import datasets

    path = _written(hub, "test", labels, datasets.Value(kind) if kind else None)
    with pytest.raises(UserError, match=words):
        HuggingFaceImages(path, "test")
