"""COCO annotation files as data sets."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data.formats.coco import Coco
from detector.errors import UserError
from tests.json_changes import Change, change, drop

Document = dict[str, Any]

TINY: Document = {
    "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}],
    "images": [
        {"id": 20, "file_name": "b.png", "width": 40, "height": 30},
        {"id": 10, "file_name": "sub/a.png", "width": 20, "height": 10},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 3, "bbox": [1, 2, 3.5, 4], "area": 9.25},
        {"id": 2, "image_id": 10, "category_id": 7, "bbox": [0, 0, 20, 10], "iscrowd": 1},
    ],
}


def write(folder: Path, document: object) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return path


def test_the_real_file_has_its_images_objects_and_classes(shared: Path) -> None:
    folder = shared / "data/coco"
    coco = Coco(folder / "annotations/instances_val2017.json", folder / "val2017")
    objects = [coco.annotations(index) for index in range(len(coco))]
    assert len(coco) == 206
    assert sum(len(one) for one in objects) == 1786
    assert sum(int(one.ignore.sum()) for one in objects) == 21
    assert len(coco.classes) == len(coco.category_ids) == 80
    assert (coco.classes[0], coco.classes[-1]) == ("person", "toothbrush")
    assert (coco.category_ids[0], coco.category_ids[-1]) == (1, 90)


def test_every_real_object_is_as_the_json_has_it(shared: Path) -> None:
    folder = shared / "data/coco"
    path = folder / "annotations/instances_val2017.json"
    coco = Coco(path, folder / "val2017")
    expected = {one["id"]: one for one in json.loads(path.read_text())["annotations"]}
    for index in range(len(coco)):
        objects = coco.annotations(index)
        for row, number in enumerate(objects.ids.tolist()):
            one = expected.pop(number)
            x, y, w, h = one["bbox"]
            assert objects.boxes[row].tolist() == [x, y, x + w, y + h]
            assert coco.category_ids[objects.labels[row]] == one["category_id"]
            assert objects.areas[row] == one["area"]
            assert objects.ignore[row] == one["iscrowd"]
            assert objects.image_id == one["image_id"]
    assert not expected


def test_real_images_decode_at_the_annotated_size(shared: Path) -> None:
    folder = shared / "data/coco"
    coco = Coco(folder / "annotations/instances_val2017.json", folder / "val2017")
    for index in range(len(coco)):
        objects = coco.annotations(index)
        assert coco.image(index).shape == (objects.height, objects.width, 3)


def test_a_tiny_file_read_by_hand(tmp_path: Path) -> None:
    coco = Coco(write(tmp_path, TINY), tmp_path)
    assert (coco.classes, coco.category_ids) == (("cat", "cup"), (3, 7))
    empty, objects = coco.annotations(0), coco.annotations(1)
    assert (empty.image_id, empty.file_name, empty.width, empty.height) == (20, "b.png", 40, 30)
    assert empty.boxes.shape == (0, 4)
    assert objects.boxes.tolist() == [[1, 2, 4.5, 6], [0, 0, 20, 10]]
    assert objects.labels.tolist() == [0, 1]
    assert objects.ignore.tolist() == [False, True]
    assert objects.areas.tolist() == [9.25, 200]  # its own; the box's, where the file has none
    assert objects.ids.tolist() == [1, 2]


def test_images_can_be_kept_by_id(tmp_path: Path) -> None:
    path = write(tmp_path, TINY)
    kept = Coco(path, tmp_path, keep_ids=[10])
    assert len(kept) == 1
    assert kept.annotations(0).ids.tolist() == [1, 2]
    assert len(kept.classes) == 2
    with pytest.raises(UserError, match="no image with id 11 to keep"):
        Coco(path, tmp_path, keep_ids=[10, 11])
    with pytest.raises(UserError, match="no images in it to keep"):
        Coco(path, tmp_path, keep_ids=[])


def test_images_may_lie_in_folders_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (20, 10), (9, 8, 7)).save(tmp_path / "sub/a.png")
    coco = Coco(write(tmp_path, TINY), tmp_path)
    assert np.array_equal(coco.image(1), np.full((10, 20, 3), (9, 8, 7)))
    assert coco.stored(1) == (tmp_path / "sub/a.png").read_bytes()
    for ask in (coco.image, coco.stored):
        with pytest.raises(UserError, match=r"b\.png: image file is missing"):
            ask(0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("images"), 'no list "images" in it; it holds "categories", "annotations"'),
        (change("annotations", to={}), 'no list "annotations"'),
        (change("images", 0, to=3), r"images\[0\] is not an object"),
        (drop("images", 1, "width"), r'"width" of images\[1\] \(id 10\) is missing; expected 1'),
        (change("images", 0, "width", to=4.5), r'"width" of images\[0\] \(id 20\) is 4\.5; exp'),
        (change("images", 0, "width", to=True), r"is true; expected 1 to 9,999,999 pixels"),
        (change("images", 0, "width", to=-64), r"is -64; expected 1 to 9,999,999 pixels"),
        (change("images", 0, "width", to=1e30), r"is 1e\+30; expected 1 to 9,999,999 pixels"),
        (change("images", 0, "height", to=0), r'"height" of images\[0\] \(id 20\) is 0; expec'),
        (change("images", 0, "id", to=10), "two images have the id 10"),
        (change("images", 0, "id", to=2**63), "expected a whole number of 64 bits"),
        (change("images", to=[]), "no images in it"),
        (change("categories", 0, "id", to=3), "two categories have the id 3"),
        (change("categories", 0, "name", to="cat"), 'have the name "cat": ids 3 and 7'),
        (change("categories", 0, "name", to=None), r'"name" of categories\[0\].* is missing'),
        (change("annotations", 1, "id", to=1), "two annotations have the id 1"),
        (drop("annotations", 0, "bbox"),
         r'"bbox" of annotations\[0\] \(id 1\) is missing; expected \[x'),
        (change("annotations", 0, "category_id", to=4),
         r'"category_id" of annotations\[0\] \(id 1\) is 4, wh'),
        (change("annotations", 1, "image_id", to=4),
         r'"image_id" of annotations\[1\] \(id 2\) is 4, which no'),
        (change("annotations", 0, "bbox", to=[1, 2, 3]), r"is \[1, 2, 3\]; expected \[x, y"),
        (change("annotations", 0, "bbox", to=[1, 2, -3, 4]), r"is \[1, 2, -3, 4\]"),
        (change("annotations", 0, "bbox", to=[1, 2, float("nan"), 4]), r"is \[1, 2, NaN, 4\]"),
        (change("annotations", 0, "bbox", to=[1, 2, "x", 4]), r'is \[1, 2, "x", 4\]'),
        (change("annotations", 0, "area", to="big"), 'is "big"; expected square pixels'),
        (change("annotations", 0, "area", to=-4), "is -4; expected square pixels"),
        (change("annotations", 0, "iscrowd", to=2),
         r'"iscrowd" of annotations\[0\] \(id 1\) is 2; expected 0 or 1'),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_in_one_line(edit: Change, message: str, tmp_path: Path) -> None:
    document = copy.deepcopy(TINY)
    edit(document)
    with pytest.raises(UserError, match=rf"instances\.json: .*{message}") as caught:
        Coco(write(tmp_path, document), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "sub/../../a.png", "..\\a.png", "C:\\a.png", "", ".."]
)
def test_a_file_name_stays_inside_the_image_folder(name: str, tmp_path: Path) -> None:
    document = copy.deepcopy(TINY)
    document["images"][0]["file_name"] = name
    with pytest.raises(UserError, match="does not stay inside the image folder") as caught:
        Coco(write(tmp_path, document), tmp_path)
    told = str(caught.value).endswith('; expected a path from there on, such as "a.png"')
    assert told == name.endswith("a.png")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: no such file"):
        Coco(tmp_path / "gone.json", tmp_path)
    with pytest.raises(UserError, match=r"gone: no such folder; expected the images of"):
        Coco(write(tmp_path, TINY), tmp_path / "gone")
    with pytest.raises(UserError, match="a file, no folder; expected the images of"):
        Coco(write(tmp_path, TINY), write(tmp_path, TINY))
