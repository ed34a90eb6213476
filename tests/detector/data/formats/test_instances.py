"""COCO files as people write them: read for what they mean or refused, by all readers alike."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate_kit.models.labels.annotations import read_annotations
from ablate_kit.models.labels.truth import ground_truth
from detector.data.checks.check_coco import CocoSource
from detector.data.checks.dataset_check import CheckReport, examine
from detector.data.formats.coco import Coco
from detector.data.formats.fields import mark, number, whole
from detector.data.formats.instances import read_instances
from detector.errors import UserError

PLAIN: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "1.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "2.png", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 5, "image_id": 2, "category_id": 7, "bbox": [1, 2, 10, 20], "iscrowd": 0},
        {"id": 6, "image_id": 1, "category_id": 7, "bbox": [1.5, 2, 30, 8.25], "area": 3},
        {"id": 7, "image_id": 2, "category_id": 4, "bbox": [0, 0, 40, 30], "difficult": 0},
    ],
    "categories": [{"id": 7, "name": "dog"}, {"id": 4, "name": "cat"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for name in ("1.png", "2.png"):
        Image.new("RGB", (40, 30)).save(place / name)
    return place


def write(folder: Path, document: object, encoding: str = "utf-8") -> Path:
    path = folder / "annotations.json"
    path.write_bytes(json.dumps(document, ensure_ascii=False).encode(encoding))
    return path


def with_fields(**fields: object) -> dict[str, Any]:
    """The plain file with these fields in every annotation."""
    document = copy.deepcopy(PLAIN)
    for one in document["annotations"]:
        one.update(fields)
    return document


def looked_at(path: Path, folder: Path) -> CheckReport:
    return examine(CocoSource(path, folder), None, lambda: None)


YES: list[object] = [1, True, 1.0, "1", "true", " True ", "TRUE"]
NO: list[object] = [0, False, 0.0, "0", "false", "False", "", None]
NEITHER: list[object] = [2, -1, 0.5, float("nan"), "2", "yes", "no", "01", [0], [], {}, [1]]


@pytest.mark.parametrize("key", ["iscrowd", "difficult"])
def test_a_mark_is_yes_or_no_however_it_is_written(key: str, folder: Path) -> None:
    for value in YES + NO:
        path = write(folder, with_fields(**{key: value}))
        expected = 3 if value in YES and value not in ("", None) else 0
        assert read_annotations(path).truth.ignore.sum() == expected, value
        assert ground_truth(Coco(path, folder)).ignore.sum() == expected, value
        assert looked_at(path, folder).ignored == expected, value
    for value in NEITHER:
        path = write(folder, with_fields(**{key: value}))
        message = rf'"{key}" of annotations\[0\] \(id 5\) is .*; expected 0 or 1'
        with pytest.raises(UserError, match=message):
            read_annotations(path)
        with pytest.raises(UserError, match=message):
            Coco(path, folder)
        assert looked_at(path, folder).counts() == {"malformed annotation": 3, "no objects": 1}


@pytest.mark.parametrize(("difficult", "count", "ignored"), [("ignore", 3, 3), ("keep", 3, 0),
                                                             ("drop", 0, 0)])  # fmt: skip
def test_difficult_objects_of_coco_files(
    difficult: Any, count: int, ignored: int, folder: Path
) -> None:
    path = write(folder, with_fields(difficult="1"))
    scored = read_annotations(path, difficult)
    data = ground_truth(Coco(path, folder, difficult=difficult))
    assert (len(scored.truth), scored.truth.ignore.sum()) == (count, ignored)
    assert (len(data), data.ignore.sum()) == (count, ignored)
    assert "3 objects are marked as difficult" in scored.notes[0]
    assert Coco(path, folder, difficult=difficult).notes == scored.notes


@pytest.mark.parametrize("text", ["7", " 7", "7.0", 7.0])
def test_a_number_may_be_text_or_a_float(text: object, folder: Path) -> None:
    document = with_fields(category_id=text)
    if text == "7.0":
        with pytest.raises(UserError, match="expected a whole number"):
            read_annotations(write(folder, document))
        return
    assert (read_annotations(write(folder, document)).truth.labels == 1).all()


def test_values_of_fields() -> None:
    assert [number(one) for one in (1, 2.5, "2.5", " -1e3 ", ".5", "5.")] == [
        1, 2.5, 2.5, -1000, 0.5, 5,
    ]  # fmt: skip
    for bad in (True, None, "nan", "inf", "1_0", "0x1", "", "١", float("nan"), 1e300, 10**400, [1]):
        assert number(bad) is None, bad
    assert [whole(one) for one in (3, 3.0, "3", " -3 ", 2**63 - 1)] == [3, 3, 3, -3, 2**63 - 1]
    for bad in (True, None, 2.5, "3.0", "1e3", "", 2**63, "9" * 5000, float("inf"), "٣"):
        assert whole(bad) is None, bad
    assert [mark(one) for one in YES] == [True] * len(YES)
    assert [mark(one) for one in NO] == [False] * len(NO)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_byte_order_mark_is_no_part_of_the_text(encoding: str, folder: Path) -> None:
    document = copy.deepcopy(PLAIN)
    document["categories"][0]["name"] = "Öl"
    path = write(folder, document, encoding)
    assert read_annotations(path).truth.classes == ("cat", "Öl")
    assert Coco(path, folder).classes == ("cat", "Öl")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(Coco(path, folder)) == 2


def test_a_category_for_the_whole_project_is_left_out(folder: Path) -> None:
    document = copy.deepcopy(PLAIN)
    document["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
    path = write(folder, document)
    scored = read_annotations(path)
    assert scored.truth.classes == ("cat", "dog")
    assert scored.truth.category_ids == (4, 7)
    assert scored.truth.labels.tolist() == [1, 1, 0]
    (note,) = scored.notes
    assert note.endswith(
        'category 0 is left out: it has no objects, and the name of another, "dog"'
    )
    assert Coco(path, folder).category_ids == (4, 7)
    report = looked_at(path, folder)
    assert report.problems == []
    assert report.balance == {"cat": (1, 1), "dog": (2, 2)}
    document["annotations"][0]["category_id"] = 0
    path = write(folder, document)
    for read in (read_annotations, lambda path: Coco(path, folder)):
        with pytest.raises(UserError, match='with objects have the name "dog": ids 0 and 7'):
            read(path)
    assert looked_at(path, folder).counts() == {"duplicate": 1}
    document["annotations"] = []  # another split of the same export: the same class is kept
    assert read_annotations(write(folder, document)).truth.category_ids == (4, 7)


def test_score_needs_no_names_or_sizes_of_images(folder: Path) -> None:
    document = copy.deepcopy(PLAIN)
    document["images"] = [{"id": 1}, {"id": 2}]
    path = write(folder, document)
    assert read_annotations(path).truth.widths.tolist() == [0, 0]
    with pytest.raises(UserError, match=r'"file_name" of images\[0\] \(id 1\) is missing'):
        Coco(path, folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; expected an object with images"),
        (b" \n", "the file is empty; expected an object with images"),
        (b"\xff\xfe\x00", "the file is empty"),
        (b"{", "not JSON"),
        (b"\xff\xfex", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (gzip.compress(b"{}", mtime=0)[:-9], "cannot be read"),
        (b"\x1f\x8bnot gzip at all", "cannot be read"),
        (b"[]", "expected an object with images, annotations and categories; this is a list"),
        (b'{"id": 1}\n{"id": 2}\n', "this is JSON lines, one object in each; expected an object"),
        (b'[{"image_id": 1}]', "this is a list, as files of detections are"),
        (
            b'{"images": [], "annotations": []}',
            'no list "categories" in it; it holds "images", "an',
        ),
    ],
)
def test_files_of_another_kind_are_told_from_broken_ones(
    data: bytes, message: str, folder: Path
) -> None:
    path = folder / "other.json"
    path.write_bytes(data)
    for read in (
        read_annotations,
        lambda path: Coco(path, folder),
        lambda path: CocoSource(path, folder),
    ):
        with pytest.raises(UserError) as refused:
            read(path)
        assert "other.json: " in str(refused.value)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)


ODD = st.one_of(
    st.sampled_from(YES + NO + NEITHER),
    st.integers(-3, 9),
    st.sampled_from(
        [-64, 1e30, 2**63, 7.0, "7", "4", "1", 2**70, float("inf"), "\n", "dog", "cat"]
    ),
    st.lists(st.sampled_from([0, 1, 2.5, -3, "4", float("nan"), None, 1e200]), max_size=5),
)
PLACES = [(key, row, field) for key in PLAIN for row, one in enumerate(PLAIN[key])
          for field in (*one, "iscrowd", "difficult", "area")]  # fmt: skip


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(st.tuples(st.sampled_from(PLACES), ODD | st.just("absent")), max_size=3))
def test_all_readers_see_the_same_objects_or_refuse_with_the_same_words(
    edits: list[tuple[tuple[str, int, str], object]], folder: Path
) -> None:
    document = copy.deepcopy(PLAIN)
    for (key, row, field), value in edits:
        if value == "absent":
            document[key][row].pop(field, None)
        else:
            document[key][row][field] = value
    path = write(folder, document)

    def told(read: Any) -> Any:
        """The ground truth, or the words of the refusal."""
        try:
            return read()
        except UserError as error:
            return str(error)

    scored = told(lambda: read_annotations(path).truth)
    data = told(lambda: ground_truth(Coco(path, folder)))
    report = told(lambda: looked_at(path, folder))
    # Only what is needed to open images may be refused where they are opened alone.
    opening = ('"width"', '"height"', '"file_name"', "image folder")
    if isinstance(data, str) and not isinstance(scored, str):
        assert any(field in data for field in opening)
    else:
        assert type(scored) is type(data)
    if isinstance(data, str):
        assert "\n" not in data
        messages = (
            [one.message for one in report.problems] if isinstance(report, CheckReport) else report
        )
        assert data in messages
        return
    assert isinstance(report, CheckReport)
    assert not {"malformed annotation", "unknown class"} & set(report.counts())
    assert (report.objects, report.ignored) == (len(data), data.ignore.sum())
    assert tuple(report.balance) == data.classes == scored.classes
    for name in ("image", "labels", "ignore", "ids", "areas", "boxes", "image_ids"):
        assert np.array_equal(getattr(scored, name), getattr(data, name)), name
    assert scored.category_ids == data.category_ids
    assert len(read_instances(path, "keep", with_files=True).ids) == len(document["annotations"])


@pytest.mark.parametrize(
    ("box", "count", "corners"),
    [
        ([20, 12, 35, 28], 20, True),
        ([20, 12, 35, 28], 19, False),  # too few to tell
        ([5, 4, 32, 22], 20, False),  # large, and inside of its image
        ([1, 1, 45, 36], 20, False),  # leaves it either way
    ],
)
def test_boxes_of_two_corners_are_refused(
    box: list[int], count: int, corners: bool, folder: Path
) -> None:
    one = {"image_id": 1, "category_id": 7, "bbox": box}
    annotations = [{"id": number} | one for number in range(1, count + 1)]
    path = write(folder, PLAIN | {"annotations": annotations})
    problems = [one.message for one in looked_at(path, folder).problems]
    assert any("the boxes look like x1, y1, x2, y2" in text for text in problems) == corners
    if corners:
        for read in (lambda: Coco(path, folder), lambda: read_annotations(path)):
            with pytest.raises(UserError, match="which COCO has, 100% of them would leave"):
                read()
    else:
        assert len(Coco(path, folder).annotations(0)) == count
