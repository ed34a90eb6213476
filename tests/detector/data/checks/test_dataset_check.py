"""Data sets with known mistakes: each is found, counted, and said in one line."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.data.checks.check_coco import CocoSource
from detector.data.checks.check_voc import VocSource
from detector.data.checks.dataset_check import KINDS, CheckedSource, CheckReport, compare, examine
from detector.data.formats.coco import Coco
from detector.data.formats.voc import Voc
from detector.data.formats.voc_xml import CLASSES
from detector.errors import UserError


def look(source: CheckedSource, count: int | None = None) -> CheckReport:
    return examine(source, count, lambda: None)


def voc_xml(name: str = "dog", box: tuple[object, ...] = (1, 2, 40, 10), **changes: object) -> str:
    corners = "".join(
        f"<{corner}>{value}</{corner}>"
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    width = changes.get("width", 40)
    return (
        f"<annotation><size><width>{width}</width><height>30</height></size><object>"
        f"<name>{name}</name><difficult>{changes.get('difficult', 0)}</difficult>"
        f"<bndbox>{corners}</bndbox></object></annotation>"
    )


def voc_root(root: Path, annotations: list[str], listed: list[str] | None = None) -> Path:
    folder = root / "VOC2007"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    names = [f"{i:06}" for i in range(len(annotations))]
    for name, xml in zip(names, annotations, strict=True):
        (folder / "Annotations" / f"{name}.xml").write_text(xml)
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(listed or names))
    return folder


def test_a_sound_voc_has_no_problems_and_is_counted(tmp_path: Path) -> None:
    voc_root(tmp_path, [voc_xml(), voc_xml("cat", difficult=1), "<annotation><size><width>40"
             "</width><height>30</height></size></annotation>"])  # fmt: skip
    report = look(VocSource(tmp_path, "2007:train"))
    assert report.problems == []
    assert (report.images, report.objects, report.ignored, report.without_objects) == (3, 2, 1, 1)
    assert report.balance["dog"] == report.balance["cat"] == (1, 1)
    assert report.balance["car"] == (0, 0)


@pytest.mark.parametrize(
    ("xml", "kind", "message"),
    [
        (voc_xml("dgo"), "unknown class", '"dgo" is not a VOC class; did you mean "dog"?'),
        (voc_xml(box=(30, 2, 10, 10)), "degenerate box", "['30', '2', '10', '10']: no box"),
        (voc_xml(box=("a", 2, 10, 10)), "degenerate box", "['a', '2', '10', '10']"),
        (voc_xml(box=(1, 2, 45, 10)), "box outside the image", "leaves the image of 40x30 by 5"),
        (voc_xml(box=(-3, 2, 4, 10)), "box outside the image", "leaves the image of 40x30 by 4"),
        (voc_xml(width=50), "wrong size", "image is 40x30, its annotation says 50x30"),
        (voc_xml(width=0), "malformed annotation", 'size/width is "0"; expected a number'),
        (voc_xml(difficult=7), "malformed annotation", '"difficult" is "7"; expected 0 or 1'),
        ("<annotation>", "malformed annotation", "not well-formed XML"),
    ],
)
def test_problems_of_a_voc_annotation(tmp_path: Path, xml: str, kind: str, message: str) -> None:
    voc_root(tmp_path, [voc_xml(), xml, voc_xml()])
    report = look(VocSource(tmp_path, "train"))
    assert report.counts() == {kind: 1}
    assert "000001" in report.problems[0].message
    assert message in report.problems[0].message
    assert report.images == 3


def test_problems_of_voc_files_and_lists(tmp_path: Path) -> None:
    folder = voc_root(
        tmp_path,
        [voc_xml()] * 4,
        ["000000", "000001", "000002", "000003", "000009", "000000", "000001 -1"],
    )
    (folder / "JPEGImages/000001.jpg").unlink()
    (folder / "Annotations/000002.xml").unlink()
    data = (folder / "JPEGImages/000003.jpg").read_bytes()
    (folder / "JPEGImages/000003.jpg").write_bytes(data[: len(data) // 2])
    report = look(VocSource(tmp_path, "train"))
    assert report.counts() == {
        "missing image": 2,  # of 000001, and of 000009
        "undecodable image": 1,
        "missing annotation": 2,
        "malformed annotation": 1,  # the line "000001 -1"
        "duplicate": 1,
    }
    assert "\n" not in "".join(problem.message for problem in report.problems)
    assert list(report.counts()) == [kind for kind in KINDS if kind in report.counts()]


def test_one_object_may_have_several_problems(tmp_path: Path) -> None:
    voc_root(tmp_path, [voc_xml("dgo", (30, 2, 10, 10), difficult=7), voc_xml()])
    assert len(look(VocSource(tmp_path, "train")).counts()) == 3


def test_a_box_may_leave_the_image_by_a_pixel(tmp_path: Path) -> None:
    voc_root(tmp_path, [voc_xml(box=(0, 0, 41, 31))])
    assert look(VocSource(tmp_path, "train")).problems == []


def test_what_is_no_voc_at_all_is_refused(tmp_path: Path) -> None:
    folder = voc_root(tmp_path, [voc_xml()])
    with pytest.raises(UserError, match="no VOC2012 folder"):
        VocSource(tmp_path, "2012:train")
    with pytest.raises(UserError, match=r'no split "trian" .* did you mean "train"'):
        VocSource(tmp_path, "trian")
    (folder / "ImageSets/Main/train.txt").write_text("")
    with pytest.raises(UserError, match="lists no image"):
        VocSource(tmp_path, "train")


def test_a_voc_with_classes_of_its_own(tmp_path: Path) -> None:
    folder = voc_root(tmp_path, [voc_xml("helmet"), voc_xml("person"), voc_xml("helmet")])
    source = VocSource(folder, "train")  # the year's folder itself
    assert source.notes == (
        f"{folder}: 2 classes of its own, as its annotations name them: helmet, person",
    )
    report = look(source)
    assert report.problems == []
    assert report.balance == {"helmet": (2, 2), "person": (1, 1)}
    report = look(VocSource(folder, "train", classes=("person",)))
    assert report.counts() == {"unknown class": 2}
    assert '"helmet" is none of the 1 classes' in report.problems[0].message


@pytest.mark.parametrize(
    ("difficult", "objects", "ignored"), [("ignore", 2, 1), ("keep", 2, 0), ("drop", 1, 0)]
)
def test_difficult_objects_of_voc(
    tmp_path: Path, difficult: Any, objects: int, ignored: int
) -> None:
    voc_root(tmp_path, [voc_xml(), voc_xml("cat", difficult="true")])
    report = look(VocSource(tmp_path, "train", difficult))
    assert (report.objects, report.ignored) == (objects, ignored)


def test_how_images_are_read_is_told_and_no_problem(tmp_path: Path) -> None:
    folder = voc_root(tmp_path, [voc_xml()] * 3) / "JPEGImages"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (40, 30)).save(folder / "000000.jpg", exif=exif)
    (folder / "000001.jpg").unlink()
    deep = np.full((30, 40), 40_000, dtype=np.uint16)
    Image.fromarray(deep).save(folder / "000001.png")
    report = look(VocSource(tmp_path, "train"))
    assert report.problems == []
    assert report.remarks == {
        "EXIF orientation 3 is not applied (--exif apply, in a recipe exif: apply, applies it)": [
            folder / "000000.jpg"
        ],
        "16 bits are scaled to 8: the high byte is taken": [folder / "000001.png"],
    }
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "000000.jpg", exif=exif)
    report = look(VocSource(tmp_path, "train", exif="apply"))
    assert report.counts() == {"wrong size": 1}
    assert report.problems[0].message.endswith(
        "image is 30x40, its annotation says 40x30: EXIF orientation 6 is applied "
        "(--exif ignore, in a recipe exif: ignore, leaves it)"
    )


def document() -> dict[str, list[Any]]:
    """A COCO file of four images, with one object in each but the last."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3, 4)
        ],
        "annotations": [
            {"id": 10 + i, "image_id": i, "category_id": 7, "bbox": [1, 2, 10, 20]}
            for i in (1, 2, 3)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 5, "name": "cat"}],
    }


def coco(folder: Path, content: object) -> CocoSource:
    for i in (1, 2, 3, 4):
        Image.new("RGB", (40, 30)).save(folder / f"{i}.png")
    (folder / "a.json").write_text(json.dumps(content))
    return CocoSource(folder / "a.json", folder)


def test_a_sound_coco_has_no_problems_and_is_counted(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0] |= {"iscrowd": 1, "area": 3.5}
    report = look(coco(tmp_path, content))
    assert report.problems == []
    assert (report.images, report.objects, report.ignored, report.without_objects) == (4, 3, 1, 1)
    assert report.balance == {"cat": (0, 0), "dog": (3, 3)}


def change(key: str, **fields: object) -> Callable[[dict[str, list[Any]]], None]:
    return lambda content: content[key][1].update(fields)


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (change("annotations", category_id=9), "unknown class",
         '"category_id" of annotations[1] (id 12) is 9'),
        (change("annotations", bbox=[1, 2, -3, 4]), "degenerate box", "is [1, 2, -3, 4]"),
        (change("annotations", bbox=[1, 2, 3]), "degenerate box", "is [1, 2, 3]"),
        (change("annotations", bbox=[1, 2, 0, 4]), "degenerate box", "1, 2, 1, 6 has no area"),
        (change("annotations", bbox=[1, 2, 50, 4]), "box outside the image", "by 11"),
        (change("annotations", iscrowd=3), "malformed annotation", "is 3; expected 0 or 1"),
        (change("annotations", image_id=99), "malformed annotation",
         '"image_id" of annotations[1] (id 12) is 99, which no'),
        (change("annotations", bbox="x"), "malformed annotation", '"bbox" of annotations[1]'),
        (change("annotations", id=11), "duplicate", "two annotations have the id 11"),
        (change("images", file_name="1.png"), "duplicate", '2 images have the file_name "1.png"'),
        (change("images", file_name="x.png"), "missing image", "x.png: image file is missing"),
        (change("images", file_name="a.json"), "undecodable image", "a.json: image does not deco"),
        (change("images", width=41), "wrong size", "image is 40x30, its annotation says 41x30"),
    ],
)  # fmt: skip
def test_problems_of_a_coco_file(
    tmp_path: Path, spoil: Callable[[dict[str, list[Any]]], None], kind: str, message: str
) -> None:
    content = document()
    spoil(content)
    report = look(coco(tmp_path, content))
    assert report.counts() == {kind: 1}
    assert message in report.problems[0].message
    assert "\n" not in report.problems[0].message


def test_a_file_name_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    content = document()
    content["images"][3]["file_name"] = "../4.png"
    report = look(coco(tmp_path, content))
    assert report.counts() == {"malformed annotation": 1}
    assert report.images == 3


def test_what_is_no_coco_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images in it"):
        coco(tmp_path, {"categories": [], "annotations": [], "images": []})
    with pytest.raises(UserError, match="no such folder; expected images"):
        CocoSource(tmp_path / "a.json", tmp_path / "none")


def test_only_the_first_images_are_looked_at_when_asked(tmp_path: Path) -> None:
    source = coco(tmp_path, document())
    (tmp_path / "3.png").unlink()
    assert look(source, 2).problems == []
    assert look(source, 2).images == 2
    assert look(source, 3).counts() == {"missing image": 1}


def test_two_splits_should_share_no_image_and_all_classes(tmp_path: Path) -> None:
    report = look(coco(tmp_path, document()))
    assert Counter(problem.kind for problem in compare(report, report)) == {"in both splits": 4}
    (tmp_path / "other").mkdir()
    content = document()
    content["categories"][1]["name"] = "cow"
    (problem,) = compare(report, look(coco(tmp_path / "other", content)))
    assert problem.kind == "classes differ"
    assert "has cat, dog; " in problem.message


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_real_data_have_no_problems_and_the_counts_of_their_data_set(
    shared: Path, kind: str
) -> None:
    folder = shared / "data" / kind
    if kind == "voc":
        report, data = look(VocSource(folder, "val")), Voc(folder, "val")
        assert report.balance["person"][0] == sum(
            (data.annotations(i).labels == CLASSES.index("person")).sum() for i in range(len(data))
        )
    else:
        paths = folder / "annotations/instances_val2017.json", folder / "val2017"
        report, data = look(CocoSource(*paths)), Coco(*paths)
        assert (report.objects, report.ignored) == (1786, 21)  # as their README has it
    assert report.problems == []
    every = [data.annotations(i) for i in range(len(data))]
    assert report.images == len(every) == 206
    assert report.objects == sum(map(len, every))
    assert report.ignored == sum(one.ignore.sum() for one in every)
    counts = np.bincount(np.concatenate([one.labels for one in every]), minlength=len(data.classes))
    assert [objects for objects, _ in report.balance.values()] == counts.tolist()
    shown = [sum(label in one.labels for one in every) for label in range(len(data.classes))]
    assert [images for _, images in report.balance.values()] == shown
