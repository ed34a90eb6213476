"""Pickles of MMDetection and Detectron2 say what COCO's JSON of the same detections says."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints.pickle.plain_data import read_plain
from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from tests.ablate_kit.crafted_pickles import Call
from tests.ablate_kit.made_up import truth_of

IDS, CATEGORIES, CLASSES = (30, 10, 20), (2, 5), ("bolt", "nut")


@pytest.fixture
def against():
    truth = truth_of(
        [0], [1, 2, 30, 40], [0], images=3, side=640, image_ids=np.array(IDS), classes=CLASSES,
        category_ids=CATEGORIES,
    )  # fmt: skip
    return AnnotatedImages(truth, ["a.jpg", "b.jpg", "c.jpg"])


@pytest.fixture
def found():
    """(image, class, corners, score) in float32, by image and class; none on the last image."""
    rng = np.random.default_rng(0)
    low, size = rng.uniform(0, 300, (2, 40, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + size / 2], axis=1)
    where = sorted(
        zip(rng.integers(0, 2, 40).tolist(), rng.integers(0, 2, 40).tolist(), strict=True)
    )
    return [(i, c, box, s) for (i, c), box, s in
            zip(where, boxes, rng.random(40).astype(np.float32), strict=True)]  # fmt: skip


def expected(found, against, tmp_path):
    rows = [
        {"image_id": IDS[i], "category_id": CATEGORIES[c], "bbox": box.tolist(), "score": float(s)}
        for i, c, box, s in found
    ]
    path = tmp_path / "expected.json"
    path.write_text(json.dumps(rows))
    return read_dump(path, against, boxes="xyxy")[0]


def same(one, other):
    return all(
        np.array_equal(getattr(one, column), getattr(other, column))
        for column in ("image", "boxes", "scores", "labels")
    )


def mmdetection_2(found):
    table = [[np.zeros((0, 5), np.float32) for _ in CLASSES] for _ in IDS]
    for i, c, box, score in found:
        table[i][c] = np.concatenate([table[i][c], [[*box, score]]]).astype(np.float32)
    return table


def of_image(found, i):
    rows = [one for one in found if one[0] == i]
    boxes = np.array([box for _, _, box, _ in rows], np.float32).reshape(-1, 4)
    return boxes, np.array([one[3] for one in rows], np.float32), np.array([one[1] for one in rows])


def mmdetection_3(found, kind):
    return [
        {"img_id": IDS[i], "img_path": "x.jpg", "ori_shape": (480, 640),
         "pred_instances": dict(zip(("bboxes", "scores", "labels"), map(kind, of_image(found, i)),
                                    strict=True))}
        for i in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_mmdetection(found, against, tmp_path, protocol):
    path = tmp_path / "results.pkl"
    for value in (
        mmdetection_2(found),
        [(image, []) for image in mmdetection_2(found)],  # with masks
        mmdetection_3(found, np.asarray),
        mmdetection_3(found, torch.as_tensor),
    ):
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        dump, notes = read_dump(path, against, unpickle=read_plain)
        assert notes == ()
        assert same(dump, expected(found, against, tmp_path))
    path.write_bytes(pickle.dumps([[*one, one[0]] for one in mmdetection_2(found)]))
    with pytest.raises(UserError, match="detections of 3 classes, and there are 2; --class-names"):
        read_dump(path, against, unpickle=read_plain)
    path.write_bytes(pickle.dumps(mmdetection_2(found)[:2]))
    with pytest.raises(UserError, match="2 images, which it has no names for, and the ground tr"):
        read_dump(path, against, unpickle=read_plain)


@pytest.mark.parametrize("zipped", [True, False])
def test_detectron2(found, against, tmp_path, zipped):
    images = [
        {"image_id": IDS[i], "instances": [
            {"image_id": IDS[i], "category_id": c, "score": float(s),
             "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]}
            for j, c, box, s in found if j == i
        ]}
        for i in range(3)
    ]  # fmt: skip
    path = tmp_path / "instances_predictions.pth"
    torch.save(images, path, _use_new_zipfile_serialization=zipped)
    dump, _ = read_dump(path, against, unpickle=read_plain)
    rows = [
        row | {"category_id": CATEGORIES[row["category_id"]]}
        for image in images
        for row in image["instances"]
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert same(dump, read_dump(tmp_path / "rows.json", against)[0])
    swapped, _ = read_dump(path, against, unpickle=read_plain, class_names=("nut", "bolt"))
    assert (swapped.labels == 1 - dump.labels).all()


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("scores", ["high"]), ("scores", [10**400]), ("scores", [[0.5]]), ("scores", [True]),
        ("labels", [0.5]), ("labels", [np.nan]), ("labels", [2**70]), ("labels", ["0"]),
        ("bboxes", [[[1, 2], [3, 4]]]), ("bboxes", [1, 2, 3, 4]), ("bboxes", [[1, 2, 3, 4j]]),
    ],
)  # fmt: skip
def test_values_that_are_no_numbers_of_their_kind_are_refused(key, bad, against, tmp_path):
    path = tmp_path / "results.pkl"
    good = {"bboxes": [[1.0, 2, 3, 4]], "scores": [0.5], "labels": [1]}
    path.write_bytes(pickle.dumps([{"img_id": 30, "pred_instances": good | {key: bad}}]))
    with pytest.raises(UserError, match=r"results\.pkl\[0\]: not an image of"):
        read_dump(path, against, unpickle=read_plain)
    row = {"bbox": [1.0, 2, 3, 4], "score": 0.5, "category_id": 1}
    single = {"bboxes": "bbox", "scores": "score", "labels": "category_id"}[key]
    image = {"image_id": 30, "instances": [row | {single: bad[0]}]}
    torch.save([image], tmp_path / "instances.pth")
    with pytest.raises(UserError, match=r"instances\.pth\[0\]: not an image of"):
        read_dump(tmp_path / "instances.pth", against, unpickle=read_plain)


def test_an_image_of_a_number_that_no_image_has_is_named(against, tmp_path):
    found = {"bboxes": [[1.0, 2, 3, 4]], "scores": [0.5], "labels": [1]}
    path = tmp_path / "results.pkl"
    path.write_bytes(pickle.dumps([{"img_id": 2**70, "pred_instances": found}]))
    with pytest.raises(UserError, match=f"image {2**70} is not one of the 3"):
        read_dump(path, against, unpickle=read_plain)


def test_other_arrays(tmp_path):
    rng = np.random.default_rng(1)
    values = {
        "f": np.asfortranarray(rng.random((3, 4))),
        "big": rng.integers(0, 99, 5).astype(">i4"),
        "scalar": np.array(2.5),
        "none": np.zeros((0, 5), np.float16),
        "nested": [{"deep": (["x", rng.random(2)],)}],
        "strided": torch.arange(12.0).reshape(3, 4).T[1:, ::2],
        "half": torch.arange(3).bfloat16(),
    }
    for protocol in (2, 4, 5):
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle.dumps(values, protocol=protocol))
        read = read_plain(path)
        for key in ("f", "big", "scalar", "none"):
            assert read[key].shape == values[key].shape
            assert np.array_equal(read[key], values[key]), key
        assert np.array_equal(read["nested"][0]["deep"][0][1], values["nested"][0]["deep"][0][1])
        assert np.array_equal(read["strided"], values["strided"].numpy())
        assert read["half"].tolist() == [0, 1, 2]


def test_nothing_in_it_is_run_and_other_files_are_named(against, tmp_path):
    def refused(name):
        with pytest.raises(UserError) as told:
            read_dump(tmp_path / name, against, unpickle=read_plain)
        return str(told.value)

    harm = Call(os.mkdir, str(tmp_path / "made"))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([harm]))
    assert "a pickle of another form; expected MMDetection's results.pkl" in refused("a.pkl")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([[harm] * 2] * 3))
    assert "b.pkl[0]: not an image of MMDetection's results.pkl" in refused("b.pkl")
    assert not (tmp_path / "made").exists()
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(mmdetection_2([]))[:-9])
    assert "cut short" in refused("c.pkl")
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "model.pth")
    assert "a dictionary, as a checkpoint is ('ablate eval' evaluates" in refused("model.pth")
    for length in (2, 0x80):  # how protocol 2 begins, too
        head = length.to_bytes(8, "little") + b"{}".ljust(length)
        (tmp_path / "model.safetensors").write_bytes(head)
        assert "this is a checkpoint; 'ablate eval' evaluates" in refused("model.safetensors")
