"""PASCAL VOC folders as data sets."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data.formats.voc import Voc
from detector.data.formats.voc_classes import read_classes
from detector.data.formats.voc_devkit import parse_split, splits_in
from detector.data.formats.voc_xml import CLASSES
from detector.errors import UserError

DOG = "<object><name>dog</name><difficult>{difficult}</difficult><bndbox><xmin>1</xmin>\
<ymin>2</ymin><xmax>40</xmax><ymax>10.5</ymax></bndbox></object>"
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def write(root: Path, year: str, splits: dict[str, list[str]], objects: str = "") -> Path:
    """A devkit year of 40x30 images that all have the same objects; gives its folder."""
    folder = root / f"VOC{year}"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
        for name in names:
            xml = f"<annotation>{SIZE}{objects}</annotation>"
            (folder / "Annotations" / f"{name}.xml").write_text(xml)
            Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / f"{name}.jpg")
    return folder


def ids(voc: Voc) -> list[int]:
    return [voc.annotations(index).image_id for index in range(len(voc))]


def test_the_real_splits_have_their_images(shared: Path) -> None:
    root = shared / "data/voc"
    sizes = {split: len(Voc(root, split)) for split in ("train", "val", "trainval", "train+val")}
    assert sizes == {"train": 620, "val": 206, "trainval": 826, "train+val": 826}
    assert set(ids(Voc(root, "train+val"))) == set(ids(Voc(root, "trainval")))


def test_a_real_annotation_file_read_by_hand(shared: Path) -> None:
    # 000001.xml: dog 48 240 195 371 and person 8 12 352 498, image 353 x 500, none difficult.
    objects = Voc(shared / "data/voc", "train").annotations(0)
    assert (objects.image_id, objects.file_name) == (1, "000001.jpg")
    assert (objects.width, objects.height) == (353, 500)
    assert objects.boxes.tolist() == [[47, 239, 195, 371], [7, 11, 352, 498]]
    assert [CLASSES[label] for label in objects.labels] == ["dog", "person"]
    assert objects.ignore.tolist() == [False, False]
    assert objects.areas.tolist() == [148 * 132, 345 * 487]
    assert objects.ids.tolist() == [10001, 10002]


def test_all_real_objects_equal_an_independent_conversion(shared: Path) -> None:
    path = shared / "data/detections/voc2007_test/instances_voc2007_test.json.gz"
    reference = json.loads(gzip.decompress(path.read_bytes()))
    names = {category["id"]: category["name"] for category in reference["categories"]}
    expected: dict[int, list[tuple[object, ...]]] = {}
    for one in reference["annotations"]:
        x, y, w, h = one["bbox"]
        row = (names[one["category_id"]], bool(one["difficult"]), x, y, x + w, y + h)
        expected.setdefault(one["image_id"], []).append(row)
    voc = Voc(shared / "data/voc", "trainval")
    for index in range(len(voc)):
        objects = voc.annotations(index)
        rows = zip(objects.labels, objects.ignore, objects.boxes.tolist(), strict=True)
        found = [(CLASSES[label], bool(ignore), *box) for label, ignore, box in rows]
        assert sorted(found) == sorted(expected[objects.image_id])


def test_real_images_decode_at_the_annotated_size(shared: Path) -> None:
    voc = Voc(shared / "data/voc", "val")
    for index in range(len(voc)):
        objects = voc.annotations(index)
        assert voc.image(index).shape == (objects.height, objects.width, 3)
        assert voc.stored(index)[:2] == b"\xff\xd8"  # a JPEG file


def test_only_the_top_left_corner_moves_by_the_pixel_that_voc_counts_from(tmp_path: Path) -> None:
    write(tmp_path, "2007", {"train": ["000005"]}, DOG.format(difficult=0))
    assert Voc(tmp_path, "train").annotations(0).boxes.tolist() == [[0, 1, 40, 10.5]]


@pytest.mark.parametrize(
    ("difficult", "ignore"),
    [("ignore", [False, True]), ("keep", [False, False]), ("drop", [False])],
)
def test_difficult_objects_are_ignored_kept_or_dropped(
    difficult: str, ignore: list[bool], tmp_path: Path
) -> None:
    both = DOG.format(difficult=0) + DOG.format(difficult=1)
    write(tmp_path, "2007", {"train": ["000005"]}, both)
    objects = Voc(tmp_path, "train", difficult=difficult).annotations(0)
    assert objects.ignore.tolist() == ignore
    assert objects.ids.tolist() == [50001, 50002][: len(ignore)]


def test_parts_of_a_person_are_no_objects(tmp_path: Path) -> None:
    # VOC2012 nests <part><name>head</name><bndbox>... in persons, before the person's own box.
    part = "<part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>4</xmax>\
<ymax>4</ymax></bndbox></part>"
    person = DOG.replace("<object><name>dog</name>", f"<object>{part}<name>person</name>")
    write(tmp_path, "2007", {"train": ["000005"]}, person.format(difficult=0))
    objects = Voc(tmp_path, "train").annotations(0)
    assert objects.boxes.tolist() == [[0, 1, 40, 10.5]]
    assert objects.labels.tolist() == [CLASSES.index("person")]


def test_an_image_without_objects_is_an_ordinary_image(tmp_path: Path) -> None:
    write(tmp_path, "2007", {"train": ["000005"]})
    objects = Voc(tmp_path, "train").annotations(0)
    assert objects.boxes.shape == (0, 4)
    assert len(objects) == 0


@pytest.mark.parametrize("given_root", [".", "VOCdevkit"])
def test_the_root_may_be_the_devkit_or_hold_it(given_root: str, tmp_path: Path) -> None:
    write(tmp_path / "VOCdevkit", "2007", {"train": ["000005"]})
    assert ids(Voc(tmp_path / given_root, "train")) == [5]


def test_years_and_splits_combine_in_order_with_unique_ids(tmp_path: Path) -> None:
    write(tmp_path, "2007", {"train": ["000027"], "val": ["000005"]})
    write(tmp_path, "2012", {"train": ["2008_000002"], "val": ["2007_000027"]})
    both = Voc(tmp_path, "2007:train+2012:train+2007:val+2012:val")
    assert ids(both) == [27, 2008000002, 5, 2007000027]
    assert ids(Voc(tmp_path, "2007:train+2012:val")) == [27, 2007000027]
    assert both.image(3).shape == (30, 40, 3)
    with pytest.raises(UserError, match=r'split "val" as 2007:val or 2012:val$'):
        Voc(tmp_path, "val")


def test_the_splits_that_are_there(tmp_path: Path) -> None:
    assert splits_in(tmp_path / "gone") == []
    year = write(tmp_path / "VOCdevkit", "2012", {"val": ["000027"], "dog_val": ["000027"]})
    assert splits_in(tmp_path) == splits_in(tmp_path / "VOCdevkit") == ["2012:val"]
    assert splits_in(year) == ["val"]


def test_a_split_without_a_year_is_of_the_only_year(tmp_path: Path) -> None:
    write(tmp_path / "VOCdevkit", "2012", {"train": ["000027"]})
    assert ids(Voc(tmp_path, "train")) == ids(Voc(tmp_path / "VOCdevkit", "train")) == [27]


@pytest.mark.parametrize("split", ["", "train+", "2007:", "07:train", ":train", "a:b:train"])
def test_a_split_that_is_not_understood_is_refused(split: str) -> None:
    with pytest.raises(UserError, match="is not understood at"):
        parse_split(split)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.from_regex(r"\A\d{4}\Z"), st.from_regex(r"\A[a-z_]+\Z")),
        min_size=1,
        max_size=4,
    )
)
def test_a_written_split_reads_back(pairs: list[tuple[str, str]]) -> None:
    assert list(parse_split("+".join(f"{year}:{name}" for year, name in pairs))) == pairs


def test_mistakes_about_the_folder_say_what_was_expected_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: no such folder; expected VOCdevkit, with VOC2007"):
        Voc(tmp_path / "gone", "train")
    with pytest.raises(UserError, match=r"expected VOC2007/ImageSets/Main in it, found nothing$"):
        Voc(tmp_path, "train")
    folder = write(tmp_path, "2007", {"trainval": ["000005"], "blank": []})
    with pytest.raises(UserError, match=r"no VOC2012 folder; .* found VOC2007$"):
        Voc(tmp_path, "2012:train")
    with pytest.raises(UserError, match=r'no split "trainvall" in .*did you mean "trainval"'):
        Voc(tmp_path, "trainvall")
    with pytest.raises(UserError, match=r"blank\.txt: split is empty$"):
        Voc(tmp_path, "blank")
    with pytest.raises(UserError, match="image 000005 was already listed in trainval"):
        Voc(tmp_path, "trainval+trainval")
    with pytest.raises(UserError, match=r'is "ignored"; expected .*did you mean "ignore"'):
        Voc(tmp_path, "trainval", difficult="ignored")
    (folder / "JPEGImages/000005.jpg").unlink()
    with pytest.raises(UserError, match=r"000005\.jpg: image file is missing"):
        Voc(tmp_path, "trainval").image(0)
    (folder / "Annotations/000005.xml").unlink()
    with pytest.raises(UserError, match=r"000005\.xml: annotation file is missing"):
        Voc(tmp_path, "trainval").annotations(0)


@pytest.mark.parametrize("line", ["000012 -1", "000012  1", "frame 3 -1"])
def test_a_list_of_one_class_says_which_list_to_give(line: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"dog_train": ["000012"]})
    (folder / "ImageSets/Main/dog_train.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=r"such as train in place of dog_train$"):
        Voc(tmp_path, "dog_train")


@pytest.mark.parametrize("line", ["../../../etc/passwd", "a\\b", "..", "C:x"])
def test_a_split_file_holds_image_names_only(line: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]})
    (folder / "ImageSets/Main/train.txt").write_text(line + "\n")
    with pytest.raises(UserError, match="is not a VOC image name such as 000005"):
        Voc(tmp_path, "train")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<name>dog", "<name>dogg", r'"dogg" is not a VOC class; did you mean "dog"'),
        ("<xmax>40</xmax>", "", "of an object are .*None"),
        ("<xmax>40", "<xmax>wide", "of an object are .*'wide'"),
        ("<xmax>40", "<xmax>nan", "no box"),
        ("<xmax>40", "<xmax>inf", "no box"),
        ("<xmax>40", "<xmax>0", "no box"),
        ("<difficult>0", "<difficult>yes", '"difficult" is "yes"; expected 0 or 1'),
        ("<width>40</width>", "", 'size/width is ""; expected a number of pixels'),
        ("<width>40", "<width>0", 'size/width is "0"'),
        ("</annotation>", "", "not well-formed XML"),
        ("annotation>", "html>", 'its root is "html"; expected annotation'),
        ("<annotation>", '<annotation xmlns="http://x">', r'its root is "{http://x}annotation"'),
        ("<object>", "<group><object/></group><object>", "an object lies in another element"),
        ("<bndbox>", "<bndbox><xmin>1</xmin></bndbox><bndbox>", "has several boxes"),
        ("<annotation>", '<?xml version="1.0" encoding="none"?><annotation>', "not well-formed"),
    ],
)
def test_a_broken_annotation_file_is_named_in_one_line(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]}, DOG.format(difficult=0))
    path = folder / "Annotations/000005.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    (folder / "Annotations/000006.xml").write_text(f"<annotation>{DOG}</annotation>")
    with pytest.raises(UserError, match=rf"000005\.xml: .*{message}") as caught:
        Voc(tmp_path, "train").annotations(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["", "<size/>", SIZE.replace("40", "0").replace("30", "0")])
def test_where_no_size_is_annotated_the_image_tells(size: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]})
    path, image = folder / "Annotations/000005.xml", folder / "JPEGImages/000005.jpg"
    path.write_text(path.read_text().replace(SIZE, size))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save(image, exif=turned)
    for exif, sides in (("ignore", (40, 30)), ("apply", (30, 40))):
        voc = Voc(tmp_path, "train", exif=exif)  # type: ignore[arg-type]
        objects = voc.annotations(0)
        assert (objects.width, objects.height) == voc.image(0).shape[1::-1] == sides
    image.unlink()
    with pytest.raises(UserError, match=r"xml has no size of the image, and .*image file is miss"):
        Voc(tmp_path, "train").annotations(0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_defines_entities_is_refused_before_they_grow(
    encoding: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]})
    bomb = '<!DOCTYPE a [<!ENTITY x "dog"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{bomb}'
    (folder / "Annotations/000005.xml").write_bytes(declared.encode(encoding))
    with pytest.raises(UserError, match=r"a DOCTYPE .* has no place in a VOC annotation"):
        Voc(tmp_path, "train").annotations(0)


def test_own_classes_any_names_and_suffixes(tmp_path: Path) -> None:
    bolt = DOG.format(difficult="").replace("dog", "bolt")
    folder = write(tmp_path, "2007", {"train": ["IMG 1", "scan.2.png", "7"]}, bolt)
    nut = bolt.replace("bolt", " nut ")
    annotations, images = folder / "Annotations", folder / "JPEGImages"
    (annotations / "scan.2.png.xml").rename(annotations / "scan.2.xml")
    (annotations / "other split.xml").write_text(f"<annotation>{SIZE}{nut}</annotation>")
    for name, suffix in (("scan.2.png.jpg", "scan.2.png"), ("7.jpg", "7.JPEG")):
        (images / name).unlink()
        Image.new("RGB", (40, 30), (9, 8, 7)).save(images / suffix)
    voc = Voc(tmp_path, "train")
    assert (voc.classes, voc.category_ids) == (("bolt", "nut"), (1, 2))
    files = [voc.annotations(index).file_name for index in range(3)]
    assert files == ["IMG 1.jpg", "scan.2.png", "7.JPEG"]
    assert [voc.image(index).shape for index in range(3)] == [(30, 40, 3)] * 3
    assert ids(voc)[2] == 7
    assert ids(voc) == ids(Voc(folder, "train"))
    assert len(set(ids(voc))) == 3
    named = Voc(tmp_path, "train", classes=("nut", "bolt"))
    assert named.annotations(0).labels.tolist() == [1]


def test_a_misspelled_class_of_voc_makes_no_data_set_of_its_own(tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]}, DOG.format(difficult=0))
    for name, own in (("dgo", False), ("helmet", True)):
        xml = f"<annotation>{SIZE}{DOG.format(difficult=0).replace('dog', name)}</annotation>"
        (folder / "Annotations/000009.xml").write_text(xml)
        classes = Voc(tmp_path, "train").classes
        assert classes == (("dog", "helmet") if own else CLASSES)


def test_class_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("bolt\n\n nut\n", encoding="utf-8-sig")
    assert read_classes(path) == ("bolt", "nut")
    for text, message in (("\n", "no class names in it"), ("a\na\n", '"a" is there twice')):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_classes(path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]}, DOG.format(difficult=0))
    for path in (folder / "ImageSets/Main/train.txt", folder / "Annotations/000005.xml"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert ids(Voc(tmp_path, "train")) == [5]
    assert len(Voc(tmp_path, "train").annotations(0)) == 1


def test_images_of_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "2007", {"train": ["000012", "12"]})
    with pytest.raises(UserError, match="images 000012 and 12 would have the same id"):
        Voc(tmp_path, "train")


def test_an_annotation_file_is_read_once(tmp_path: Path) -> None:
    folder = write(tmp_path, "2007", {"train": ["000005"]}, DOG.format(difficult=0))
    voc = Voc(tmp_path, "train")
    first = voc.annotations(0)
    (folder / "Annotations/000005.xml").unlink()
    assert np.array_equal(voc.annotations(0).boxes, first.boxes)
