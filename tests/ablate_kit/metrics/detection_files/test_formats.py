"""The same detections in every format give the same columns; large files come in blocks."""

import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detection_files import text_files as files_module
from ablate_kit.metrics.detection_files.text_files import json_rows
from ablate_kit.metrics.stored import save_npz
from ablate_kit.models.labels.annotations import annotated_images, read_annotations
from detector.data.formats.yolo import Yolo
from detector.data.formats.yolo_boxes import GRID

CLASSES = {3: "cat", 7: "dog_house"}
SIZES = {11: (200, 100), 12: (64, 64), 2008000019: (333, 500)}


@pytest.fixture
def dataset(tmp_path):
    images = [
        {"id": id, "width": w, "height": h, "file_name": f"some/{name}.jpg"}
        for (id, (w, h)), name in zip(SIZES.items(), ("a", "000012", "2008_000019"), strict=True)
    ]
    annotations = [
        {"id": 1, "image_id": 11, "category_id": 3, "bbox": [10, 10, 40, 50], "difficult": 0},
        {"id": 2, "image_id": 12, "category_id": 7, "bbox": [1, 2, 30, 40], "difficult": 1},
    ]
    # Out of order: a file may list its categories as it likes.
    categories = [{"id": id, "name": name} for id, name in reversed(CLASSES.items())]
    path = tmp_path / "annotations.json.gz"
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    path.write_bytes(gzip.compress(text.encode()))
    return path


ROWS = [  # image id, category id, corners, score
    (12, 3, (1, 2, 31, 42), 0.25),
    (11, 7, (10, 20, 110, 95), 0.5),
    (2008000019, 7, (0, 0, 333, 500), 0.125),
    (11, 3, (8, 8, 16, 24), 1.0),
]
NAMES = {11: "a", 12: "000012", 2008000019: "2008_000019"}


def coco_json(path, xyxy=False):
    rows = [
        {"image_id": image, "category_id": label, "score": score, "segmentation": {"counts": "},{"},
         "bbox": list(box) if xyxy else [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for image, label, box, score in ROWS
    ]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


def devkit(folder):
    folder.mkdir()
    for label, name in CLASSES.items():
        lines = [
            f"{NAMES[image]} {score} {box[0] + 1} {box[1] + 1} {box[2]} {box[3]}"
            for image, of, box, score in ROWS
            if of == label
        ]
        (folder / f"comp4_det_test_{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def yolo(folder):
    folder.mkdir()
    for image, label, (x1, y1, x2, y2), score in ROWS:
        w, h = SIZES[image]
        number = list(CLASSES).index(label)
        line = [number, (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h, score]
        with (folder / f"{NAMES[image]}.txt").open("a") as file:
            file.write(" ".join(map(repr, line)) + "\n")
    return folder


def columns(found):
    rows = zip(found.image, found.labels, found.boxes.tolist(), found.scores, strict=True)
    return sorted(map(repr, rows))


def test_every_format_says_the_same(dataset, tmp_path):
    against = read_annotations(dataset)
    assert against.truth.classes == ("cat", "dog_house")
    found, notes = read_dump(coco_json(tmp_path / "a.json"), against)
    assert notes == ()
    order = list(SIZES)
    assert columns(found) == sorted(
        repr((np.int32(order.index(i)), np.int32(list(CLASSES).index(c)), list(map(float, b)),
              np.float64(s)))
        for i, c, b, s in ROWS
    )  # fmt: skip
    save_npz(tmp_path / "a.npz", found, against.truth)
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    (tmp_path / "names").write_text("dog_house\ncat\n")
    others = {
        "npz": read_dump(tmp_path / "a.npz", against),
        "gz": read_dump(tmp_path / "packed", against),
        "xyxy": read_dump(coco_json(tmp_path / "b.json", xyxy=True), against, boxes="xyxy"),
        "devkit": read_dump(devkit(tmp_path / "devkit"), against),
        "yolo": read_dump(yolo(tmp_path / "yolo"), against),
    }
    for name, (other, notes) in others.items():
        assert columns(other) == columns(found), name
        assert notes == (), name
    swapped, _ = read_dump(tmp_path / "yolo", against, class_names=["dog_house", "cat"])
    assert sorted(swapped.labels) == sorted(1 - found.labels)
    assert columns(swapped) != columns(found)


def test_detections_of_yolo_are_on_the_grid_of_its_labels(tmp_path):
    """What was written in six digits is the same box, be it a label or a detection."""
    shares = np.random.default_rng(0).uniform(0.1, 0.4, (300, 4)).round(6)
    lines = [f"0 {' '.join(map(str, row))}" for row in shares]
    Image.new("RGB", (333, 500)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("names: [cat]\nval: .\n")
    dataset = Yolo(tmp_path / "data.yaml")
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "a.txt").write_text("\n".join(f"{line} 0.5" for line in lines))
    found, _ = read_dump(tmp_path / "found", annotated_images(dataset))
    assert (found.boxes == dataset.annotations(0).boxes).all()
    assert (found.boxes % GRID == 0).all()


@pytest.mark.parametrize(("difficult", "boxes", "ignored"), [("ignore", 2, 1), ("keep", 2, 0),
                                                            ("drop", 1, 0)])  # fmt: skip
def test_difficult_objects(dataset, difficult, boxes, ignored):
    against = read_annotations(dataset, difficult)
    assert (len(against.truth), against.truth.ignore.sum()) == (boxes, ignored)
    (note,) = against.notes
    assert "1 objects are marked as difficult" in note


@pytest.mark.parametrize("block", [7, 60, 1000, 1 << 22])
def test_blocks_cut_between_rows_only(tmp_path, monkeypatch, block):
    rows = [
        {"n": n, "text": "},{" * (n % 3), "inner": [{"a": 1}, {"a": n}], "deep": {"x": [{}]}}
        for n in range(300)
    ]
    path = tmp_path / "rows.json"
    path.write_text("  " + json.dumps(rows, indent=1))
    monkeypatch.setattr(files_module, "_BLOCK", block)
    parts = [rows for rows, _ in json_rows(path)]
    assert [row for part in parts for row in part] == rows
    assert (len(parts) > 5) == (block < 1 << 20)


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    row = json.dumps({"image_id": 1, "category_id": 1, "bbox": [1.5, 2.5, 3.5, 4.5], "score": 0.5})
    path = tmp_path / "rows.json"
    path.write_text("[" + ",".join([row] * 40_000) + "]")
    monkeypatch.setattr(files_module, "_BLOCK", 1 << 14)
    tracemalloc.start()
    count = sum(len(rows) for rows, _ in json_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40_000
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize("text", ["[{}", "[{},]", "[{}] x", "[", '[{"a": 1}, {"a"'])
def test_broken_json(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.json: not JSON"):
        list(json_rows(path))


def test_a_truncated_gzip(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps([{"a": 1}] * 1000).encode())[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        list(json_rows(path))


def test_real_dumps_keep_every_row(shared):
    folder: Path = shared / "data/detections/voc2007_test"
    against = read_annotations(folder / "instances_voc2007_test.json.gz")
    lines = sum(len(path.read_text().splitlines()) for path in (folder / "yolov2_b").glob("*.txt"))
    assert len(read_dump(folder / "yolov2_b", against)[0]) == lines == 101_139
