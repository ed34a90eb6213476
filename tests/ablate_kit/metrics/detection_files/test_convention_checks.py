"""What is wrong with a dump is said, with its place; and left out only on request."""

import json
import math

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.models.labels.annotations import read_annotations

GOOD = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.5}


@pytest.fixture
def against(tmp_path):
    path = tmp_path / "annotations.json"
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in (1, 20)],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    path.write_text(json.dumps(truth))
    return read_annotations(path)


@pytest.fixture
def read(tmp_path, against):
    def read(*rows, **options):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(rows))
        return read_dump(path, against, **options)

    return read


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"score": math.nan}, "the score is nan"),
        ({"score": None}, "the score is nan"),
        ({"score": -math.inf}, "the score is -inf"),
        ({"image_id": 200}, "image 200 is not one of the 2 of the ground truth ("),
        (
            {"category_id": 0},
            "category 0 is not one of the 2 of the ground truth, whose ids are 1 to 2; those of "
            "the file are 0 to 1, as if they counted the classes from 0 (",
        ),
        (
            {"category_id": 9},
            "category 9 is not one of the 2 of the ground truth, whose ids are 1 to 2; those of "
            "the file are 1 to 9 (",
        ),
        ({"bbox": [1, 2, math.nan, 4]}, "the box [1.0, 2.0, nan, 4.0] is not four numbers"),
        ({"bbox": [1, 2, 1e40, 4]}, "the box [1.0, 2.0, 1e+40, 4.0] is not four numbers"),
    ],
)
def test_rows_that_cannot_be_scored(read, bad, told):
    rows = [GOOD, GOOD | bad, GOOD | {"score": 0.25}, GOOD | bad]
    with pytest.raises(UserError) as refused:
        read(*rows)
    message = str(refused.value)
    assert "results.json[1]: " + told in message
    assert message.endswith("(2 such rows); --skip-bad leaves them out")
    found, notes = read(*rows, skip_bad=True)
    assert found.scores.tolist() == [0.5, 0.25]
    assert len(notes) == 1
    assert notes[0].startswith("2 rows left out, first ")


def test_where_no_row_can_be_scored_nothing_is_to_be_left_out(read):
    with pytest.raises(UserError, match=r"image 7 is not one of the 2 .* \(in all 2 rows\)$"):
        read(*[GOOD | {"image_id": 7}] * 2)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"score": "high"}, "\"score\" must be a number, got 'high'"),
        ({"score": True}, '"score" must be a number, got True'),
        ({"bbox": [1, 2, True, 4]}, '"bbox" must be a list of 4 numbers, got [1, 2, True, 4]'),
        ({"bbox": [1, 2, 3]}, '"bbox" must be a list of 4 numbers'),
        ({"image_id": [1]}, '"image_id" must be an integer'),
        ({"category_id": 1.5}, '"category_id" must be an integer'),
    ],
)
def test_rows_of_another_form_are_always_refused(read, bad, told):
    with pytest.raises(UserError, match=r"results\.json\[2\]") as refused:
        read(GOOD, GOOD, GOOD | bad, skip_bad=True)
    assert told in str(refused.value)


@pytest.mark.parametrize("bad", [{"bbox": [[1, 2], [30, 40]]}, {"bbox": [1, 2]}, {"score": [0.5]}])
def test_rows_that_all_nest_their_numbers_alike_are_refused(read, bad):
    with pytest.raises(UserError, match=r"results\.json\[0\]: .* must be a"):
        read(GOOD | bad, GOOD | bad)


def test_a_missing_key_is_named(read):
    with pytest.raises(UserError, match=r'results\.json\[0\] has no "score"'):
        read({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "scores": 1})


def some(count, size, seed=0):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, (count, 4)) * [400, 300, size, size] + [0, 0, 20, 20]
    return [GOOD | {"bbox": box, "score": i / count} for i, box in enumerate(boxes.tolist())]


def corners(rows):
    return [
        row | {"bbox": [x, y, x + w, y + h]} for row in rows for x, y, w, h in [row["bbox"]]
    ]  # fmt: skip


def test_corners_are_detected_and_said(read):
    rows = some(50, 150)
    found, notes = read(*rows)
    assert len(found) == 50
    assert notes == ()
    with pytest.raises(UserError, match=r"look like xyxy boxes: .* and all .* give --boxes xyxy"):
        read(*corners(rows))
    odd = [*corners(some(99, 150)), GOOD | {"bbox": [50, 60, 40, 90]}]
    with pytest.raises(UserError, match=r"look like xyxy boxes: .* and nearly all have x2 >= x1"):
        read(*odd)
    as_corners, _ = read(*corners(rows), boxes="xyxy")
    np.testing.assert_allclose(as_corners.boxes, found.boxes, atol=1e-9)
    insisted, _ = read(*corners(rows), boxes="xywh")
    assert len(insisted) == 50


def test_sizes_read_as_corners_are_refused(read):
    with pytest.raises(UserError, match="end before they begin"):
        read(*some(50, 30), boxes="xyxy")


def test_boxes_that_leave_the_image_a_little_are_not_suspected(read):
    rows = [row | {"bbox": [560.0, 300.0, 95.0, 190.0]} for row in some(20, 100)]
    assert len(read(*rows)[0]) == 20  # clumsy, but no corners: 95 < 560


def test_shares_of_the_image_are_refused(read):
    with pytest.raises(UserError, match="look like shares of the image; expected pixels"):
        read(GOOD | {"bbox": [0.1, 0.2, 0.3, 0.4]})


def test_what_is_odd_is_said(read):
    rows = [
        GOOD, GOOD, GOOD | {"score": 7.5}, GOOD | {"bbox": [5, 5, 0, 9]},
        GOOD | {"bbox": [5, 5, -3, 9]},
    ]  # fmt: skip
    found, notes = read(*rows)
    assert len(found) == 5
    told = "\n".join(notes)
    assert "scores run from 0.5 to 7.5, not within 0 to 1" in told
    assert "2 boxes without area; they match nothing" in told
    assert "1 box without area; it matches nothing" in "\n".join(read(*rows[:-1])[1])
    assert "1 detection repeats another one exactly" in told


def test_no_detections_are_a_result(read):
    found, notes = read()
    assert len(found) == 0
    assert notes[0].endswith("no detections")


def test_text_files(tmp_path, against):
    devkit = tmp_path / "devkit"
    devkit.mkdir()
    (devkit / "comp4_det_val_a.txt").write_text("000001 0.5 1 2 30\n")
    with pytest.raises(UserError, match=r'_a\.txt:1: expected "image score left top right bottom"'):
        read_dump(devkit, against)
    (devkit / "comp4_det_val_a.txt").write_text("000001 0.5 1 2 30 40\n000007 0.5 1 2 30 40\n")
    with pytest.raises(UserError, match=r"_a\.txt:2: image 000007 is not one of"):
        read_dump(devkit, against)
    found, notes = read_dump(devkit, against, skip_bad=True)
    assert found.boxes.tolist() == [[0, 1, 30, 40]]
    assert any("no detections of b" in note for note in notes)
    (devkit / "comp4_det_val_c.txt").write_text("")
    with pytest.raises(UserError, match='"c" is no class'):
        read_dump(devkit, against)

    yolo = tmp_path / "yolo"
    yolo.mkdir()
    with pytest.raises(UserError, match="no text files"):
        read_dump(yolo, against)
    (yolo / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError, match="no score: ultralytics writes it with save_conf=True"):
        read_dump(yolo, against)
    (yolo / "1.txt").write_text("2 0.5 0.5 0.1 0.1 0.9\n")
    with pytest.raises(UserError, match=r"1\.txt:1: category 2\.0 is not one of the 2"):
        read_dump(yolo, against)
    with pytest.raises(UserError, match='"z" is no class'):
        read_dump(yolo, against, class_names=["z"])


def test_places_that_are_no_dump(tmp_path, against):
    with pytest.raises(UserError, match="no such file"):
        read_dump(tmp_path / "nowhere.json", against)
    (tmp_path / "object.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="this is an object, as an annotation file is"):
        read_dump(tmp_path / "object.json", against)
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(UserError, match="this begins with 'hello'"):
        read_dump(tmp_path / "text.json", against)


def test_images_without_detections_and_boxes_beyond_them_are_said(tmp_path, read, against):
    rows = [GOOD, GOOD | {"bbox": [300, 300, 420, 100], "score": 0.4}]  # ends at 720 of 640
    _, (note,) = read(*rows)
    assert "50% of the boxes leave their image by more than a tenth of its size" in note
    assert read(*(rows + [GOOD | {"score": i / 10} for i in range(4)]))[1] == ()
    _, (note,) = read(GOOD | {"image_id": 20})
    assert "nothing is detected on 1 of the 1 images with objects" in note
