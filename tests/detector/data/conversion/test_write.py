"""Data sets in another format, and back."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.models.labels.truth import ground_truth
from detector.data.conversion.unread import unread_of
from detector.data.conversion.write import convert
from detector.data.dataset import Dataset, limit
from detector.data.formats.coco import Coco
from detector.data.formats.voc import Voc
from detector.data.formats.voc_classes import read_classes
from detector.data.formats.yolo import Yolo
from detector.data.formats.yolo_boxes import GRID
from detector.data.shapes import Shapes
from detector.errors import UserError

WIDTH, HEIGHT = 40, 30
NAMES = ("a", "b", "c")

Opened = Callable[[Path], Dataset]
OPEN: dict[str, Opened] = {
    "coco": lambda place: Coco(place / "instances.json", place / "images"),
    "voc": lambda place: Voc(place, "val", classes=read_classes(place / "classes.txt")),
    "yolo": lambda place: Yolo(place / "data.yaml"),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.png")
    return folder


def document(objects: Sequence[dict[str, Any]], classes: Sequence[str] = ("cat", "dog")) -> Any:
    return {
        "images": [
            {"id": i + 3, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
            for i, name in enumerate(NAMES)
        ],
        "annotations": [{"id": i + 1, "iscrowd": 0, **one} for i, one in enumerate(objects)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
    }


def opened(folder: Path, images: Path, content: Any) -> Coco:
    (folder / "in.json").write_text(json.dumps(content))
    return Coco(folder / "in.json", images)


def through(dataset: Dataset, folder: Path, *formats: str) -> tuple[Dataset, list[str]]:
    """The data set after one conversion after the other, and what was said of them."""
    notes: list[str] = []
    for number, to in enumerate(formats):
        place = folder / f"{number}-{to}"
        place.mkdir()
        notes += convert(dataset, to, place, "val")
        dataset = OPEN[to](place)
    return dataset, notes


@st.composite
def objects(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(st.integers(-16, 8 * WIDTH - 9)), draw(st.integers(-16, 8 * HEIGHT - 9))
        w, h = draw(st.integers(8, 8 * WIDTH)), draw(st.integers(8, 8 * HEIGHT))
        found.append(
            {"image_id": draw(st.integers(3, 5)), "category_id": draw(st.integers(1, 2)),
             "bbox": [x / 8, y / 8, w / 8, h / 8], "area": w * h / 64}
        )  # fmt: skip
    return found


def detections(truth: GroundTruth, seed: int) -> Detections:
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, len(truth), 2 * len(truth))
    return Detections(
        image=truth.image[rows],
        boxes=truth.boxes[rows] + draw.normal(0, 1, (len(rows), 4)),
        scores=draw.uniform(0, 1, len(rows)),
        labels=truth.labels[rows],
    )


@settings(deadline=None, max_examples=12)
@given(
    objects=objects(),
    formats=st.lists(st.sampled_from(["coco", "voc", "yolo"]), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_boxes_come_back_as_they_were_and_so_does_every_number(
    objects: list[dict[str, Any]], formats: list[str], seed: int, images: Path
) -> None:
    with TemporaryDirectory() as name:
        before = opened(Path(name), images, document(objects, ("cat", "dog", "none of it")))
        after, notes = through(before, Path(name), *formats, "coco")
        assert notes == []
        assert after.classes == before.classes
        assert after.category_ids == before.category_ids
        for index in range(len(before)):
            one, two = before.annotations(index), after.annotations(index)
            assert (one.file_name, one.width, one.height) == (two.file_name, two.width, two.height)
            for column in ("boxes", "labels", "ignore", "areas"):
                np.testing.assert_array_equal(getattr(one, column), getattr(two, column))
            np.testing.assert_array_equal(before.image(index), after.image(index))
        first, second = ground_truth(before), ground_truth(after)
        found = detections(first, seed)
        assert evaluate(first, found, score_threshold=0.3) == evaluate(
            second, found, score_threshold=0.3
        )


@settings(deadline=None, max_examples=10)
@given(box=st.tuples(*[st.floats(0, 10), st.floats(0, 10), st.floats(1, 20), st.floats(1, 20)]))
def test_boxes_of_any_numbers_come_back_nearly(box: tuple[float, ...], images: Path) -> None:
    one = {"image_id": 3, "category_id": 1, "bbox": list(box), "area": box[2] * box[3]}
    with TemporaryDirectory() as name:
        before = opened(Path(name), images, document([one]))
        for to in ("voc", "yolo"):
            (Path(name) / to).mkdir()
            after, _ = through(before, Path(name) / to, to)
            np.testing.assert_allclose(
                after.annotations(0).boxes, before.annotations(0).boxes, atol=GRID, rtol=0
            )


def test_every_number_of_yolo_is_that_of_its_coco_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "ds" / folder).mkdir(parents=True)
    for index in range(12):
        Image.new("RGB", (97, 61)).save(tmp_path / f"ds/images/{index:02d}.png")
        rows = [f"{draw.integers(0, 2)} {' '.join(f'{x:.6f}' for x in draw.uniform(0.1, 0.5, 4))}"
                for _ in range(4)]  # fmt: skip
        rows.append("1 0.1 0.1 0.5 0.123457 0.3 0.7")
        (tmp_path / f"ds/labels/{index:02d}.txt").write_text("\n".join(rows))
    (tmp_path / "ds/data.yaml").write_text("names: [cat, dog]\nval: images\n")
    before = Yolo(tmp_path / "ds/data.yaml")
    after, notes = through(before, tmp_path, "coco")
    assert notes == []
    assert unread_of(before, None) == ["outlines are written as their boxes (12)"]
    first, second = ground_truth(before), ground_truth(after)
    found = detections(first, 1)
    assert evaluate(first, found) == evaluate(second, found)


def test_what_is_to_be_ignored_is_marked_or_left_out_and_said(images: Path, tmp_path: Path) -> None:
    own = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]}
    content = document([own, own | {"iscrowd": 1}, own | {"difficult": 1}])
    before = opened(tmp_path, images, content)
    ignored = "objects to ignore (difficult ones, crowds) are marked as"
    for formats, marks, told in (
        (("voc",), [False, True, True], f"{ignored} difficult (2)"),
        (("voc", "coco"), [False, True, True], f"{ignored} iscrowd, which"),
        (("yolo",), [False], "regions to ignore (crowds, difficult objects) are left out"),
    ):
        with TemporaryDirectory(dir=tmp_path) as name:
            after, notes = through(before, Path(name), *formats)
            assert after.annotations(0).ignore.tolist() == marks
            assert any(told in note for note in notes), notes
    kept = Coco(tmp_path / "in.json", images, difficult="keep")
    with TemporaryDirectory(dir=tmp_path) as name:
        after, notes = through(kept, Path(name), "yolo")
        assert len(after.annotations(0)) == 2
        assert notes[0].startswith("regions to ignore")
        assert notes[0].endswith("as objects (1)")


def test_what_a_format_cannot_hold_is_said(images: Path, tmp_path: Path) -> None:
    content = document([
        {"image_id": 3, "category_id": 9, "bbox": [1, 1, 9, 0.5], "area": 2.25},
        {"image_id": 3, "category_id": 1, "bbox": [200, 1, 9, 9], "segmentation": [[1, 2, 3]]},
    ])  # fmt: skip
    content["categories"][1] = {"id": 9, "name": "dog", "supercategory": "animal"}
    before = opened(tmp_path, images, content)
    after, notes = through(before, tmp_path, "voc")
    np.testing.assert_array_equal(after.annotations(0).boxes, [[1, 1, 10, 2], [200, 1, 209, 10]])
    assert [note.split(":")[0].split(",")[0] for note in notes] == [
        "category ids are lost",
        "objects have an area other than their box's",
        "boxes thinner than a pixel are a pixel wide",
    ]
    (tmp_path / "y").mkdir()
    after, notes = through(before, tmp_path / "y", "yolo")
    assert len(after.annotations(0)) == 1
    assert "boxes that lie far outside their image are left out (1)" in notes
    (left,) = unread_of(limit(before, 1), tmp_path / "in.json")
    assert left.endswith(": segmentation (1), supercategory of categories (1)")


def test_names_that_are_not_plain_or_not_alone_become_ids(images: Path, tmp_path: Path) -> None:
    for names, why in (
        (("x/a", "y/a", "b"), 'two images are called "a"'),
        (("000012 -1", "y/a", "b"), '"000012 -1" is no plain name'),
    ):
        content = document([{"image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]}])
        with TemporaryDirectory(dir=tmp_path) as folder:
            for row, name in zip(content["images"], names, strict=True):
                row["file_name"] = f"{name}.png"
                path = Path(folder, "in", row["file_name"])
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (WIDTH, HEIGHT)).save(path)
            (Path(folder) / "in.json").write_text(json.dumps(content))
            before = Coco(Path(folder, "in.json"), Path(folder, "in"))
            for to in OPEN:
                (Path(folder) / to).mkdir()
                after, notes = through(before, Path(folder, to), to)
                assert notes == [f"images are named by their ids, since {why}"]
                names_after = [Path(after.annotations(i).file_name).name for i in range(3)]
                assert names_after == [f"{i:012d}.png" for i in (3, 4, 5)]


def test_links_and_voc_itself(images: Path, tmp_path: Path) -> None:
    one = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]}
    before = opened(tmp_path, images, document([one]))
    (tmp_path / "linked").mkdir()
    convert(before, "voc", tmp_path / "linked", "trainval", link=True)
    linked = Voc(tmp_path / "linked", "trainval", classes=("cat", "dog"))
    path = tmp_path / "linked/JPEGImages/a.png"
    assert path.is_symlink()
    assert path.resolve() == (images / "a.png").resolve()
    xml = tmp_path / "linked/Annotations/a.xml"
    others = ["actions", "occluded", "part", "point", "pose", "truncated"]
    tags = "".join(f"<{name}>1</{name}>" for name in others[::-1])
    xml.write_text(xml.read_text().replace("<name>cat</name>", f"<name>cat</name>{tags}"))
    (left,) = unread_of(linked, None)
    assert left.endswith(": " + ", ".join(f"{name} (1)" for name in others))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"categories": [{"id": 1, "name": " cat"}, {"id": 2, "name": "d"}]}, "cannot be written"),
        ({"categories": [{"id": 1, "name": "a\nb"}, {"id": 2, "name": "d"}]}, "cannot be written"),
        ({"file": "a.gif"}, "images of this suffix are found by no other format"),
        ({"file": "gone.png"}, "image file is missing"),
        ({"width": 30}, "a.png: image is 40x30, its annotation says 30x30"),
    ],
)
def test_mistakes(change: dict[str, Any], told: str, images: Path, tmp_path: Path) -> None:
    content = document([{"image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]}])
    content["images"][0]["file_name"] = change.pop("file", "a.png")
    content["images"][0]["width"] = change.pop("width", WIDTH)
    before = opened(tmp_path, images, content | change)
    for to, number in itertools.product(("voc", "yolo"), (0,)):
        (tmp_path / f"{to}{number}").mkdir()
        with pytest.raises(UserError, match=told):
            convert(before, to, tmp_path / f"{to}{number}", "val")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='to is "yollo"; expected coco, voc, yolo; did you mean'):
        convert(Shapes(1), "yollo", tmp_path, "val")
