import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.stored import load_npz, pack, save_npz, unpack
from tests.ablate_kit.made_up import detections_of

number = st.floats(-1e6, 1e6)
size = st.floats(0, 1e6)
xywh = st.tuples(number, number, size, size).map(list)


def dataset(**changes):
    whole = {
        "images": [{"id": 7, "width": 640, "height": 480}, {"id": 3, "width": 50, "height": 60}],
        "annotations": [
            {"id": 11, "image_id": 3, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 9.5},
            {"id": 12, "image_id": 7, "category_id": 1, "bbox": [0.1, 0.2, 0.3, 0.4]},
            {"id": 13, "image_id": 3, "category_id": 1, "bbox": [5, 6, 7, 8], "iscrowd": 1},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    }
    return whole | changes


def result(**changes):
    return {"image_id": 3, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5} | changes


GROUND_TRUTH = GroundTruth.from_coco(dataset())


def test_ground_truth_is_sorted_by_image_and_keeps_order_within():
    truth = GROUND_TRUTH
    assert truth.image_ids.tolist() == [7, 3]
    assert truth.ids.tolist() == [12, 11, 13]
    assert truth.image.tolist() == [0, 1, 1]
    assert truth.classes == ("dog", "person")
    assert truth.labels.tolist() == [1, 0, 1]
    assert truth.boxes[1].tolist() == [1, 2, 4, 6]
    assert truth.areas.tolist() == [0.3 * 0.4, 9.5, 56]
    assert truth.ignore.tolist() == [False, False, True]


def test_other_keys_of_an_annotation_have_no_effect():
    annotations = [row | {"difficult": 1} for row in dataset()["annotations"]]
    assert GroundTruth.from_coco(dataset(annotations=annotations)).ignore.sum() == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([7, 3]), st.sampled_from([18, 1]), xywh, size, st.integers(0, 1)),
        min_size=1,
        max_size=8,
    )
)
def test_ground_truth_survives_coco_to_the_last_bit(rows):
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    annotations = [dict(zip(keys, (i, *row), strict=True)) for i, row in enumerate(rows)]
    data = dataset(annotations=sorted(annotations, key=lambda row: -row["image_id"]))
    assert GroundTruth.from_coco(data).to_coco() == data


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([7, 3]), st.sampled_from([18, 1]), xywh, number), max_size=8)
)
def test_results_survive_reading_and_writing_to_the_last_bit(rows):
    keys = ("image_id", "category_id", "bbox", "score")
    results = [dict(zip(keys, row, strict=True)) for row in rows]
    detections = detections_of(results, GROUND_TRUTH)
    assert detections.to_coco_results(GROUND_TRUTH) == results


def test_single_precision_corners_survive_coco_results():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 640, (50, 2, 2)), axis=1).reshape(50, 4).astype(np.float32)
    zeros = np.zeros(50, dtype=np.int32)
    detections = Detections(zeros, corners, rng.random(50, dtype=np.float32), zeros)
    again = detections_of(detections.to_coco_results(GROUND_TRUTH), GROUND_TRUTH)
    np.testing.assert_array_equal(again.boxes, corners)
    np.testing.assert_array_equal(again.scores, detections.scores)


SMALL = Detections(np.array([0]), np.array([[0.0, 0, 5, 5]]), np.array([0.5]), np.array([0]))


def test_npz_finds_its_images_and_classes_again_in_another_order(tmp_path):
    results = [result(), result(image_id=7, category_id=18, score=0.25)]
    path = tmp_path / "detections.of.mine"
    save_npz(path, detections_of(results, GROUND_TRUTH), GROUND_TRUTH)
    data = dataset()
    other = GroundTruth.from_coco(
        dataset(images=data["images"][::-1], categories=data["categories"][::-1])
    )
    assert load_npz(path, GROUND_TRUTH).to_coco_results(GROUND_TRUTH) == results
    assert load_npz(path, other).to_coco_results(other) == results


def test_queries_are_kept_where_all_parts_have_them(tmp_path):
    one, box, score = np.zeros(1, dtype=np.int32), np.ones((1, 4)), np.ones(1)
    with_query = Detections(one, box, score, one, queries=np.array([7]))
    both = Detections.concatenate([with_query, with_query])
    save_npz(tmp_path / "a.npz", both, GROUND_TRUTH)
    assert load_npz(tmp_path / "a.npz", GROUND_TRUTH).queries.tolist() == [7, 7]
    assert Detections.concatenate([with_query, Detections(one, box, score, one)]).queries is None


def test_npz_keeps_single_precision(tmp_path):
    one = np.zeros(1, dtype=np.int32)
    detections = Detections(one, np.ones((1, 4), np.float32), np.ones(1, np.float32), one)
    save_npz(tmp_path / "a.npz", detections, GROUND_TRUTH)
    loaded = load_npz(tmp_path / "a.npz", GROUND_TRUTH)
    assert loaded.boxes.dtype == loaded.scores.dtype == np.float32
    assert loaded.sizes is None


def test_npz_of_half_precision_is_computed_in_double(tmp_path):
    save_npz(tmp_path / "a.npz", SMALL, GROUND_TRUTH)
    arrays = dict(np.load(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", **arrays | {"boxes": arrays["boxes"].astype(np.float16)})
    assert load_npz(tmp_path / "a.npz", GROUND_TRUTH).boxes.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "bad", "told"),
    [
        ("image_ids", np.array(3), r"image_ids must be integers of shape \(1,\)"),
        ("image_ids", np.array([3.0, 7.0]), "image_ids must be integers"),
        ("image_ids", np.array([3, 3]), "image id 3 occurs more than once"),
        ("category_ids", np.zeros(2, "M8[s]"), "category_ids must be integers"),
        ("category_ids", np.array([17, 17]), "category id 17 occurs more than once"),
        ("image", np.array(0), r"image must be integers of shape \(1,\)"),
        ("boxes", np.array([[0, 0, 1e300, 1]]), "the box .* is not four numbers of pixels"),
        ("sizes", np.array([[1e300, 1]]), "the box .* is not four numbers of pixels"),
    ],
)
def test_npz_with_an_odd_array_is_refused(tmp_path, name, bad, told):
    save_npz(tmp_path / "a.npz", SMALL, GROUND_TRUTH)
    arrays = dict(np.load(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", **arrays | {name: bad})
    with pytest.raises(UserError, match=told):
        load_npz(tmp_path / "a.npz", GROUND_TRUTH)


def test_what_is_packed_is_small_and_comes_back_exactly():
    generator = np.random.default_rng(0)
    boxes = generator.random((5, 4)).astype(np.float32).astype(np.float64)
    scores, labels = generator.random(5), np.arange(5, dtype=np.int64)
    one = Detections(labels // 2, boxes, scores, labels, sizes=boxes[:, 2:], queries=labels * 99)
    arrays = pack([one, one])
    assert {name: column.dtype.name for name, column in arrays.items()} == {
        "count": "int64", "image": "uint8", "boxes": "float32", "scores": "float64",
        "labels": "uint8", "sizes": "float32", "queries": "uint16",
    }  # fmt: skip
    for again in unpack(arrays):
        for name in ("image", "boxes", "scores", "labels", "sizes", "queries"):
            was, is_now = getattr(one, name), getattr(again, name)
            assert was.dtype == is_now.dtype
            np.testing.assert_array_equal(was, is_now)
    assert pack([]).keys() == {"count", "image", "boxes", "scores", "labels"}


def test_npz_with_an_image_the_ground_truth_lacks_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    save_npz(path, detections_of([result()], GROUND_TRUTH), GROUND_TRUTH)
    renamed = dataclasses.replace(GROUND_TRUTH, image_ids=np.array([7, 33]))
    with pytest.raises(UserError, match=r"a\.npz\[0\]: image id 3 is not one of the 2 of"):
        load_npz(path, renamed)


def array_bytes(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy_bytes():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable npz file"),
        (b"PK\x03\x04 and then nothing", "not a readable npz file"),
        (b"\x80\x04\x95pickle", "not a readable npz file"),
        (npy_bytes(), "not a readable npz file"),
        (array_bytes(boxes=np.zeros((1, 4))), 'has no array "image_ids"'),
        (array_bytes(image_ids=np.array([{}], dtype=object)), "not a readable npz file"),
    ],
)
def test_a_file_that_holds_no_detections_is_named(tmp_path, content, message):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"broken\.npz: {message}") as error:
        load_npz(path, GROUND_TRUTH)
    assert "\n" not in str(error.value)


def test_concatenation_keeps_order_and_exact_sizes():
    exact = detections_of([result(bbox=[0.1, 0.2, 0.3, 0.4])], GROUND_TRUTH)
    corners = dataclasses.replace(exact, sizes=None)
    both = Detections.concatenate([corners, exact])
    assert len(both) == 2
    assert both.xywh[0, 2] == (0.1 + 0.3) - 0.1 != 0.3
    assert both.xywh[1, 2] == 0.3
    assert Detections.concatenate([corners, corners]).sizes is None
    assert Detections.concatenate([]).to_coco_results(GROUND_TRUTH) == []


def annotation(**changes):
    return [{"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]} | changes]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected lists of images, annotations and categories, none empty"),
        (dataset(images=5), "expected lists of images"),
        (dataset(annotations=[]), "expected lists of images"),
        (dataset(images=[{"id": 3}, {"id": 7}, {"id": 3}]),
         "ground truth: image id 3 occurs more than once"),
        (dataset(categories=[{"id": 1, "name": "a"}, {"id": 18, "name": "a"}]),
         "ground truth: class name a occurs more than once"),
        (dataset(annotations=annotation() * 2),
         "ground truth: annotation id 1 occurs more than once"),
        (dataset(annotations=annotation(category_id=2)), "annotations[0]: category id 2 is not"),
        (dataset(annotations=annotation(image_id=1.5)), 'annotations[0]: "image_id" must be an'),
        (dataset(annotations=annotation(iscrowd="0")), 'annotations[0]: "iscrowd" must be an'),
        (dataset(annotations=annotation(area=None)), "annotations[0]: area is not finite: nan"),
        (dataset(images=[{"id": 3, "width": "w"}, {"id": 7}]),
         'images[0]: "width" must be an integer'),
    ],
)  # fmt: skip
def test_bad_annotations_are_named_in_one_line(data, message):
    with pytest.raises(UserError) as error:
        GroundTruth.from_coco(data)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


ONE = np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scores": np.ones(2)}, r"scores must be floats of shape \(1,\), got float64 of shape"),
        ({"boxes": np.ones((1, 5))}, r"boxes must be floats of shape \(1, 4\)"),
        ({"boxes": np.ones((1, 4), int)}, r"boxes must be floats of shape \(1, 4\), got int64"),
        ({"labels": np.ones(1)}, "labels must be integers"),
        ({"image": ONE - 1}, r"detections\[0\]: image index -1; expected 0 or more"),
        ({"scores": np.array([np.inf])}, r"detections\[0\]: scores is not finite: inf"),
        ({"sizes": np.ones((2, 2))}, r"sizes must be floats of shape \(1, 2\)"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(columns, message):
    good = {"image": ONE, "boxes": np.ones((1, 4)), "scores": np.ones(1), "labels": ONE}
    with pytest.raises(UserError, match=message):
        Detections(**(good | columns))


def test_boxes_out_of_image_order_are_refused():
    with pytest.raises(UserError, match="sorted by image"):
        dataclasses.replace(GROUND_TRUTH, image=GROUND_TRUTH.image[::-1])


@pytest.mark.parametrize(
    ("column", "message"),
    [("image", r"image index 2; expected 0 to 1"), ("labels", r"label index 2; expected 0 to 1")],
)
def test_indices_beyond_the_ground_truth_are_refused(column, message):
    detections = detections_of([result()], GROUND_TRUTH)
    beyond = dataclasses.replace(detections, **{column: ONE + 2})
    with pytest.raises(UserError, match=message):
        beyond.check_against(GROUND_TRUTH)
