"""YOLO data sets, as they are found in the field."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.models.labels.truth import ground_truth
from detector.data.checks.check_yolo import YoloSource
from detector.data.checks.dataset_check import examine
from detector.data.formats.coco import Coco
from detector.data.formats.yolo import Yolo
from detector.data.formats.yolo_boxes import GRID
from detector.errors import UserError

BOXES = "0 0.5 0.5 0.5 0.4\n2 0.25 0.75 0.1 0.2\n"
OUTLINE = "1 0.1 0.1 0.6 0.1 0.6 0.5\n"  # half of a box

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a data.yaml, images of 40x30 and their labels; returns the data.yaml."""

    def write(
        text: str = "names: [cat, dog, bird]\nval: images/val\n",
        labels: dict[str, str] | None = None,
        folder: str = "ds",
    ) -> Path:
        root = tmp_path / folder
        for name, own in (labels or {"images/val/a": BOXES, "images/val/b": OUTLINE}).items():
            image = root / f"{name}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30)).save(image)
            label = root / f"{name.replace('images/', 'labels/')}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(own)
        (root / "data.yaml").write_text(text)
        return root / "data.yaml"

    return write


def names_of(dataset: Yolo) -> list[str]:
    return [dataset.annotations(index).file_name for index in range(len(dataset))]


def test_boxes_and_outlines_in_pixels(make: Make) -> None:
    dataset = Yolo(make())
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog", "bird"), (1, 2, 3))
    boxes, outline = dataset.annotations(0), dataset.annotations(1)
    assert (boxes.width, boxes.height, boxes.file_name) == (40, 30, "images/val/a.png")
    np.testing.assert_allclose(boxes.boxes, [[10, 9, 30, 21], [8, 19.5, 12, 25.5]], atol=GRID)
    assert boxes.labels.tolist() == [0, 2]
    np.testing.assert_allclose(boxes.areas, [240, 24], atol=1e-4)
    np.testing.assert_allclose(outline.boxes, [[4, 3, 24, 15]], atol=GRID)
    np.testing.assert_allclose(outline.areas, [120])  # of the triangle
    assert [dataset.segments(i) for i in (0, 1)] == [0, 1]
    assert dataset.image(0).shape == (30, 40, 3)
    assert not boxes.ignore.any()
    assert len(set(boxes.ids.tolist())) == 2


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, dog, bird]\nnc: 3",
        "names:\n- cat\n- dog\n- bird",
        "names:\n  0: cat\n  1: dog\n  2: bird",
        "names: {2: bird, '0': cat, 1: dog}",
    ],
)
def test_names_are_a_list_or_a_map(make: Make, names: str) -> None:
    assert Yolo(make(f"{names}\nval: images/val\n")).classes == ("cat", "dog", "bird")


def test_a_split_is_a_folder_a_list_or_several(make: Make) -> None:
    files = {f"images/{folder}/{name}": BOXES for folder in "vw" for name in "ba"}
    text = "names: [cat, dog, bird]\npath: .\ntrain: train.txt\nval: [images/v, images/w]\ntest:\n"
    data = make(text, files)
    assert names_of(Yolo(data)) == [f"images/{one}.png" for one in ("v/a", "v/b", "w/a", "w/b")]
    listed = [
        "./images/w/a.png",
        "images/v/b.png",
        "",
        str(data.parent.resolve() / "images/v/a.png"),
    ]
    (data.parent / "train.txt").write_text("\n".join(listed))
    assert names_of(Yolo(data, "train")) == [f"images/{one}.png" for one in ("w/a", "v/b", "v/a")]
    with pytest.raises(UserError, match='no split "trian" in it; did you mean "train"'):
        Yolo(data, "trian")
    with pytest.raises(UserError, match="no split"):
        Yolo(data, "test")  # which is there, and empty
    (data.parent / "train.txt").write_text("images/v/a.png\nimages/v/a.png")
    with pytest.raises(UserError, match=r"image images/v/a\.png of train\.txt is in train\.txt as"):
        Yolo(data, "train")


def test_the_names_of_a_list_are_in_its_own_folder_or_in_the_data_sets(make: Make) -> None:
    data = make("names: [cat, dog, bird]\nval: lists/val.txt\n")
    (data.parent / "lists").mkdir()
    (data.parent / "lists/val.txt").write_text("../images/val/a.png\nimages/val/b.png")
    assert names_of(Yolo(data)) == ["images/val/a.png", "images/val/b.png"]


@pytest.mark.parametrize("name", ["valid/images/a", "set/a"])
def test_labels_lie_in_a_folder_of_their_own_or_beside_the_images(make: Make, name: str) -> None:
    split = name.rpartition("/")[0]
    dataset = Yolo(make(f"names: [cat, dog, bird]\nval: ../{split}\n", {name: BOXES}))
    assert len(dataset.annotations(0)) == 2


def test_labels_whose_image_is_gone_are_told_by_the_check(make: Make) -> None:
    data = make()
    assert YoloSource(data).notes == ()
    (data.parent / "labels/val/classes.txt").write_text("cat\n")  # as labelImg leaves it
    (data.parent / "images/val/b.png").unlink()
    (note,) = YoloSource(data).notes
    gone = data.parent / "labels/val/b.txt"
    assert note == f"{data}: val: 1 label file has no image, such as {gone}"
    # Of splits that share folders, the images of the others are there.
    (data.parent / "some.txt").write_text("images/val/a.png\n")
    data.write_text("names: [cat, dog, bird]\nval: some.txt\n")
    Image.new("RGB", (40, 30)).save(data.parent / "images/val/b.png")
    assert YoloSource(data).notes == ()


def test_an_image_without_labels_has_no_objects(make: Make) -> None:
    data = make()
    (data.parent / "labels/val/b.txt").unlink()
    dataset = Yolo(data)
    assert len(dataset.annotations(1)) == 0
    (note,) = dataset.notes
    assert note.endswith("1 of 2 images has no label file, so no objects, such as images/val/b.png")
    (data.parent / "labels/val/a.txt").unlink()
    with pytest.raises(UserError, match=r"none of the 2 images has a label file.*val/a\.txt"):
        Yolo(data)


def test_ids_are_the_names_that_are_numbers(make: Make) -> None:
    found = Yolo(make(labels={f"images/val/{n}": BOXES for n in ("000017", "x", "s/5", "t/5")}))
    ids = [found.annotations(index).image_id for index in range(4)]
    assert ids[0] == 17
    assert len(set(ids)) == 4
    assert min(ids[1:]) > 10**6  # digests: of two images that are called 5, of both
    again = Yolo(make(labels={f"images/val/{n}": BOXES for n in ("000017", "x", "s/5", "t/5")}))
    assert ids == [again.annotations(index).image_id for index in range(4)]


def test_the_size_is_that_of_the_upright_image_where_exif_is_applied(make: Make) -> None:
    data = make()
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "tif"):
        (data.parent / "images/val/a.png").unlink(missing_ok=True)
        Image.new("RGB", (40, 30)).save(data.parent / f"images/val/a.{suffix}", exif=exif)
        for treated, size in (("ignore", (40, 30)), ("apply", (30, 40))):
            dataset = Yolo(data, exif=treated)
            found = dataset.annotations(0)
            assert (found.width, found.height) == size
            assert dataset.image(0).shape[1::-1] == size
        (data.parent / f"images/val/a.{suffix}").unlink()


def test_keypoints_follow_the_box(make: Make) -> None:
    text = "names: [cat]\nval: images/val\nkpt_shape: [2, 3]\n"
    row = "0 0.5 0.5 0.5 0.4 0.1 0.1 2 0.2 0.2 1\n"
    dataset = Yolo(make(text, {"images/val/a": row}))
    np.testing.assert_allclose(dataset.annotations(0).boxes, [[10, 9, 30, 21]], atol=GRID)
    with pytest.raises(UserError, match=r"a\.txt:1: .*5 numbers; expected a box and keypoints, 11"):
        Yolo(make(text, {"images/val/a": "0 0.5 0.5 0.5 0.4"})).annotations(0)


def test_all_numbers_are_those_of_a_conversion_to_coco(make: Make) -> None:
    draw = np.random.default_rng(3)
    labels = {}
    for image in range(20):
        rows = []
        for _ in range(draw.integers(0, 6)):
            center, size = draw.uniform(0.2, 0.8, 2), draw.uniform(0.01, 0.4, 2)
            values = " ".join(f"{one:.6f}" for one in (*center, *size))
            rows.append(f"{draw.integers(0, 3)} {values}")
        labels[f"images/val/{image:03d}"] = "\n".join(rows)
    dataset = Yolo(make(labels=labels))
    images, objects = [], []
    for index, (name, text) in enumerate(labels.items()):
        images.append({"id": index, "file_name": f"{name}.png", "width": 40, "height": 30})
        for row in text.splitlines():
            label, x, y, w, h = map(float, row.split())
            box = [(x - w / 2) * 40, (y - h / 2) * 30, w * 40, h * 30]
            objects.append(
                {"id": len(objects) + 1, "image_id": index, "category_id": int(label),
                 "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(dataset.classes)]
    path = Path(dataset.folder, "coco.json")
    document = {"images": images, "annotations": objects, "categories": categories}
    path.write_text(json.dumps(document))
    truths = ground_truth(dataset), ground_truth(Coco(path, dataset.folder))
    np.testing.assert_allclose(truths[0].boxes, truths[1].boxes, atol=GRID)

    n = len(truths[0])
    kept = draw.permutation(n)[: n * 4 // 5]
    found = Detections(
        image=truths[0].image[kept],
        boxes=truths[0].boxes[kept] + draw.normal(0, 0.4, (len(kept), 4)),
        scores=draw.uniform(0.1, 1, len(kept)),
        labels=truths[0].labels[kept],
    )
    first, second = (evaluate(truth, found).overall for truth in truths)
    assert 0.1 < (first["AP"] or 0) < 0.9
    counted = [key for key in first if not key.startswith(("giou", "olrp"))]
    assert {key: first[key] for key in counted} == {key: second[key] for key in counted}
    assert first == pytest.approx(second, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no keys in it; expected a YAML file with names"),
        ("[1]", "no keys in it"),
        ("names: [a]\n", "no split; expected one of train, val, test"),
        ("val: images/val\n", "names are null; expected a list"),
        ("val: images/val\nnames: []\n", r"names are \[\]"),
        ("val: images/val\nnames: {0: a, 2: b}\n", "expected 0, 1, 2"),
        ("val: images/val\nnames: [a, a]\n", 'classes 0 and 1 have the name "a"'),
        ("val: images/val\nnames: [a, null]\n", "class 1 is named null"),
        ("val: images/val\nnames: [a, [b]]\n", "class 1 is named"),
        ("val: images/val\nnames: [a]\nnc: 3\n", "nc is 3, and there are 1 names"),
        ("val: 7\nnames: [a]\n", "val is 7; expected a folder or a list"),
        ("val: images/vla\nnames: [a]\n", r'val is "images/vla"; there is no .*ds/images/vla'),
        ("val: images/val\nnames: [a]\npath: 3\n", "path is 3; expected a folder"),
        ("val: images/val\nnames: [a]\nkpt_shape: [1, x]\n", "kpt_shape is"),
        ("val: images/val\nnames: !!python/object:os.system [a]\n", "the tag"),
        ("val: data.yaml\nnames: [a]\n", "is no name of an image"),
        ("val: labels\nnames: [a]\n", "no images in"),
    ],
)
def test_a_bad_file_is_refused_in_a_line(make: Make, text: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        Yolo(make(text))
    assert "data.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; expected a YAML file"):
        Yolo(tmp_path / "data.yaml")
    with pytest.raises(UserError, match="is a folder"):
        Yolo(tmp_path)


BAD = {
    "malformed annotation": [
        ("x 0.5 0.5 0.1 0.1", "in numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "the class is 0.5"),
        ("0 0.5 0.5 0.1", "4 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "it is a detection"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers"),
        ("0 0.5 nan 0.1 0.1", "in numbers"),
        ("0 20 15 10 10", "look like pixels"),
    ],
    "unknown class": [("3 0.5 0.5 0.1 0.1", "class 3 has no name"), ("-1 0.5 0.5 0.1 0.1", "-1")],
    "degenerate box": [("0 0.5 0.5 -0.1 0.1", "width -0.1")],
}


@pytest.mark.parametrize(
    ("kind", "row", "told"), [(kind, *one) for kind, rows in BAD.items() for one in rows]
)
def test_a_bad_line_is_refused_and_counted(make: Make, kind: str, row: str, told: str) -> None:
    data = make(labels={"images/val/a": f"\n{row}\n{BOXES}"})
    with pytest.raises(UserError, match=rf"a\.txt:2: .*{told}"):
        Yolo(data).annotations(0)
    report = examine(YoloSource(data), None, lambda: None)
    assert report.counts() == {kind: 1}
    assert report.objects == 2


def test_a_check_counts_what_is_there(make: Make) -> None:
    data = make(labels={"images/val/a": BOXES + "0 0.9 0.5 0.5 0.1\n" * 2, "images/val/b": "",
                        "images/val/c": "1 0.5 0.5 0 0.1"})  # fmt: skip
    (data.parent / "images/val/b.png").write_bytes(b"no image")
    report = examine(YoloSource(data), None, lambda: None)
    assert report.counts() == {
        "undecodable image": 1, "degenerate box": 1, "box outside the image": 2, "duplicate": 1,
    }  # fmt: skip
    assert report.balance == {"cat": (3, 1), "dog": (1, 1), "bird": (1, 1)}


def test_nothing_outside_of_the_data_sets_folder_is_looked_at(make: Make, tmp_path: Path) -> None:
    make(folder="secret")
    secret = tmp_path.resolve() / "secret"
    head = "names: [cat, dog, bird]\n"
    for text in (
        f"path: {secret}\nval: images/val\n",
        "path: ../secret\nval: images/val\n",
        f"val: {secret}/images/val\n",
        "val: ../secret/images/val\n",
        "val: images/../../secret/images/val\n",
        "val: ..\\secret\\images\\val\n",
        "val: D:\\images\\val\n",
    ):
        with pytest.raises(UserError, match=r"which is not in .*give that one as root"):
            Yolo(make(head + text, {"images/other/a": BOXES}))
    data = make(f"{head}val: val.txt\n")
    for line in (f"{secret}/images/val/a.png", "../secret/images/val/a.png", "C:\\a.png"):
        (data.parent / "val.txt").write_text(line)
        with pytest.raises(UserError, match=r"val\.txt:1: .*which is not in"):
            Yolo(data)


def test_an_absolute_path_to_the_own_folder_is_usual(make: Make, tmp_path: Path) -> None:
    root = tmp_path.resolve() / "ds"
    dataset = Yolo(make(f"names: [cat, dog, bird]\npath: {root}\nval: {root}/images/val\n"))
    assert names_of(dataset) == ["images/val/a.png", "images/val/b.png"]
    assert dataset.notes == ()


def test_a_path_of_another_machine_is_passed_over_beside_the_images(make: Make) -> None:
    dataset = Yolo(make("names: [cat, dog, bird]\npath: /content/set\nval: images/val\n"))
    assert names_of(dataset) == ["images/val/a.png", "images/val/b.png"]
    (note,) = dataset.notes
    assert 'path is "/content/set"; the images are taken from' in note


def test_the_user_can_say_where_the_data_set_is(make: Make, tmp_path: Path) -> None:
    make(folder="elsewhere")
    data = make("names: [cat, dog, bird]\npath: /content/set\nval: val.txt\n")
    (data.parent / "val.txt").write_text(f"{tmp_path.resolve()}/elsewhere/images/val/b.png\n")
    dataset = Yolo(data, root=tmp_path / "elsewhere")
    assert names_of(dataset) == ["images/val/b.png"]
    with pytest.raises(UserError, match="no such folder; expected the data set of"):
        Yolo(data, root=tmp_path / "nowhere")


def test_what_is_to_download_it_is_never_run(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = f"download: |\n  import pathlib\n  pathlib.Path({str(mark)!r}).touch()\n"
    for text in (script, f"download: bash touch {mark}\n"):
        assert len(Yolo(make(f"names: [cat, dog, bird]\nval: images/val\n{text}"))) == 2
    assert not mark.exists()
