"""Dumps as people have them: names for ids, blank lines, byte order marks, other columns."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.image_names import SEVERAL, UNKNOWN, ImageNames
from tests.ablate_kit.made_up import truth_of

FILES = ("a/one.jpg", "a/two.png", "b/two.png", "0007.jpg")
SIZE = (200, 100)


def but_few_images(notes):
    """Without the note that these few rows find nothing on other images."""
    return [note for note in notes if "nothing is detected on" not in note]


@pytest.fixture
def against():
    n = len(FILES)
    return AnnotatedImages(
        truth_of(
            np.arange(n), np.tile([10, 10, 60, 60], (n, 1)), np.zeros(n), images=n,
            image_ids=np.array([5, 6, 7, 8]), widths=np.full(n, SIZE[0]),
            heights=np.full(n, SIZE[1]), classes=("bolt", "nut"), category_ids=(1, 4),
        ),
        FILES,
    )  # fmt: skip


def row(image, label=1, score=0.5):
    return {"image_id": image, "category_id": label, "bbox": [10, 10, 50, 50], "score": score}


def test_images_are_known_by_name_path_or_stem():
    names = ImageNames.of(FILES)
    for name, index in {
        "one": 0, "one.jpg": 0, "a/one.jpg": 0, "/data/a/one.jpg": 0, "D:\\set\\a\\one.jpg": 0,
        "one.txt": 0, "a/two": 1, "b/two": 2, "./b/two.png": 2, "/data/b/two.jpeg": 2, "0007": 3,
        "two": SEVERAL, "two.png": SEVERAL, "c/two.png": SEVERAL,
        "three": UNKNOWN, "": UNKNOWN, "one.0001": UNKNOWN,
    }.items():  # fmt: skip
        assert names.find(name) == index, name
    flat = ImageNames.of(["two.png", "b/two.png", "frame.0001.jpg", "frame.0002.jpg"])
    assert [flat.find(n) for n in ("two.png", "two", "b/two.png")] == [0, SEVERAL, 1]
    assert [flat.find(n) for n in ("frame.0002", "frame.0001.txt", "frame")] == [3, 2, UNKNOWN]


def test_json_may_name_images_and_classes(against, tmp_path):
    path = tmp_path / "results.json"

    def read(*rows):
        path.write_text(json.dumps(rows))
        found, notes = read_dump(path, against)
        assert but_few_images(notes) == []
        return found

    numbers = read(row(5), row(7, 4, 0.25), row(8, 4, 0.125))
    named = read(row("one"), row("b/two.png", "nut", 0.25), row("0007", "4", 0.125))
    mixed = read(row("one"), row("b/two", 4, 0.25), row(8, 4, 0.125))
    for other in (named, mixed):
        for column in ("image", "boxes", "scores", "labels", "sizes"):
            assert np.array_equal(getattr(other, column), getattr(numbers, column)), column
    with pytest.raises(UserError, match=r"\[0\]: two is the name of several images"):
        read(row("two"))
    with pytest.raises(UserError, match=r'category nuts is not .*; did you mean "nut"'):
        read(row("one", "nuts"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_windows(against, tmp_path, encoding):
    (tmp_path / "results.json").write_text(json.dumps([row(5)]), encoding=encoding)
    found, _ = read_dump(tmp_path / "results.json", against)
    assert len(found) == 1
    yolo = tmp_path / "yolo"
    yolo.mkdir()
    lines = "\r\n0 0.2 0.3 0.1 0.2 0.5\r\n  \r\n1 0.5 0.5 0.25 0.5 0.25\r\n\r\n"
    (yolo / "one.txt").write_bytes(lines.encode(encoding))
    found, notes = read_dump(yolo, against)
    assert but_few_images(notes) == []
    assert found.scores.tolist() == [0.5, 0.25]
    assert np.allclose(found.boxes[1], [75, 25, 125, 75], rtol=1e-15)
    # A row is named by the line it is on, blank ones counted.
    (yolo / "one.txt").write_bytes((lines + "7 0.5 0.5 0.2 0.2 0.1").encode(encoding))
    with pytest.raises(UserError, match=r"one\.txt:6: category 7\.0 is not one of the 2"):
        read_dump(yolo, against)


def test_an_object_in_each_line(against, tmp_path):
    path = tmp_path / "results.jsonl"
    text = "\n".join(json.dumps(row(image, score=image / 10)) for image in (5, 6, 7))
    path.write_text(f"{text}\n\n")
    found, notes = read_dump(path, against)
    assert found.scores.tolist() == [0.5, 0.6, 0.7]
    assert but_few_images(notes) == [f"{path}: JSON lines, an object in each, not a list"]
    path.write_text(json.dumps(row(5)))
    assert len(read_dump(path, against)[0]) == 1
    path.write_text(f"{text}\n\n{json.dumps(row(99))}")
    with pytest.raises(UserError, match=r"results\.jsonl:5: image 99 is not one of the 4"):
        read_dump(path, against)
    path.write_text(f"{text}\n{{]")
    with pytest.raises(UserError, match=r"results\.jsonl:4: not JSON"):
        read_dump(path, against)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file(against, tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match="an empty file; expected COCO results"):
        read_dump(tmp_path / "results.json", against)


def yolo_rows(count=200, seed=0):
    """Labels, shares of the image (center, size) of boxes inside it, scores."""
    rng = np.random.default_rng(seed)
    low, high = np.sort(rng.random((2, count, 2)), axis=0)
    return rng.integers(0, 2, (count, 1)), (low + high) / 2, high - low, rng.random((count, 1))


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("pixels", r"look like pixels: \d+% of the rows have coordinates above 2; expected class"),
        ("score first", 'look like "class score x y width height": '),
        ("score first, pixels", "look like pixels, after the score: "),
        ("corners", 'look like "class x1 y1 x2 y2 score": '),
    ],
)
def test_yolo_text_of_another_form(against, tmp_path, form, told):
    label, center, size, score = yolo_rows()
    whole = np.array([SIZE])
    columns = {
        "pixels": (label, center * whole, size * whole, score),
        "score first": (label, score, center, size),
        "score first, pixels": (label, score, center * whole, size * whole),
        "corners": (label, center - size / 2, center + size / 2, score),
    }[form]
    np.savetxt(tmp_path / "one.txt", np.concatenate(columns, axis=1), fmt="%.6g")
    with pytest.raises(UserError, match=told):
        read_dump(tmp_path, against, skip_bad=True)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_that_were_not_clipped_are_no_other_form(against, tmp_path, seed):
    """Detectors of small scores, whose boxes leave their images on all sides."""
    label, center, size, score = yolo_rows(seed=seed)
    rows = np.concatenate((label, center, size * 1.6, score * 0.2), axis=1)
    np.savetxt(tmp_path / "one.txt", rows, fmt="%.6g")
    assert len(read_dump(tmp_path, against)[0]) == len(rows)
    one = np.array([[0, 0.02, 0.5, 0.3, 0.3, 0.9]])  # and one box alone
    np.savetxt(tmp_path / "one.txt", one, fmt="%.6g")
    assert len(read_dump(tmp_path, against)[0]) == 1


def test_a_folder_without_text_files_says_what_it_has(against, tmp_path):
    def told():
        with pytest.raises(UserError) as refused:
            read_dump(tmp_path, against)
        return str(refused.value)

    assert "no text files in this folder; expected comp4_det_test_<class>.txt" in told()
    (tmp_path / "classes.txt").write_text("bolt\nnut\n")
    assert "no text files in this folder; expected" in told()
    (tmp_path / "predictions.json").write_text("[]")
    assert f"give {tmp_path / 'predictions.json'}" in told()
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "this is the folder of a checkpoint; 'ablate eval' evaluates those" in told()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "one.txt").write_text("")
    assert f"labels/ in it has text files; give {tmp_path / 'labels'}" in told()


def test_detections_beyond_the_limit_are_said(against, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([row(5, score=i / 200) for i in range(103)] + [row(6)] * 100))
    _, notes = read_dump(path, against)
    assert any(
        f"{path}: 3 detections are beyond the best 100 of a class and image, which are all that "
        "AP and F1 count; no image has so many objects of a class" in note
        for note in notes
    )
    wide = replace(against, truth=replace(against.truth, max_detections=103))
    assert not any(" beyond the best" in note for note in read_dump(path, wide)[1])
    most = replace(against, truth=replace(against.truth, max_detections=102))
    assert any("1 detection is beyond the best 102" in note for note in read_dump(path, most)[1])
