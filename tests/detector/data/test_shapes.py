"""The synthetic benchmark: the same bytes everywhere, and the statistics it promises."""

import hashlib
import subprocess
import sys
from math import ceil, floor

import numpy as np
import pytest

from detector.data.shapes import Shapes
from detector.errors import UserError

MANY = 1500


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return Shapes(MANY)


def digest(shapes: Shapes, index: int) -> str:
    objects = shapes.annotations(index)
    parts = (shapes.image(index), objects.boxes, objects.labels)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


# Written by this generator, and the same with numpy 2.0 and 2.4 and with every set of processor
# instructions that numpy dispatches to. A change of these is a change of the data set.
# The keys are (seed, split, size, index).
GOLDEN = {
    (0, 0, 160, 0): "7aacd284b9ed85bce935225572eb201f8b59e6ae2a15741e4bba1ce303880ec8",
    (0, 0, 160, 1): "8a2d8db38bba8d2ccea8bf8310afba8dfe76d426fed4845d20952b9f4f3b2698",
    (7, 1, 160, 123): "32d915dac6786896c8820a9c56ab1c77f40a86d8fc63e3814768802688f51387",
    (7, 0, 320, 5): "2b121af698f4a346a1fa17908271fd0a4cc0d1cf95db549240ea3b7435b50dcb",
}


@pytest.mark.parametrize(("key", "expected"), GOLDEN.items())
def test_images_are_the_same_to_the_byte(key: tuple[int, int, int, int], expected: str) -> None:
    seed, split, size, index = key
    assert digest(Shapes(index + 1, seed=seed, size=size, split=split), index) == expected


def test_an_image_does_not_depend_on_the_number_of_images_or_the_order_of_asking() -> None:
    few, many = Shapes(3, seed=5), Shapes(50, seed=5)
    many.image(49)
    assert digest(few, 2) == digest(many, 2) == digest(few, 2)


def test_another_process_makes_the_same_image() -> None:
    code = "import sys; from detector.data.shapes import Shapes; \
sys.stdout.buffer.write(Shapes(9, seed=4).image(8).tobytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == Shapes(9, seed=4).image(8).tobytes()


def test_seeds_and_splits_give_unrelated_images() -> None:
    found = {digest(Shapes(2, seed=a, split=b), i) for a in (0, 1) for b in (0, 1) for i in (0, 1)}
    assert len(found) == 8


@pytest.mark.parametrize("size", [64, 160, 225])
def test_an_image_is_square_rgb_bytes(size: int) -> None:
    image = Shapes(1, size=size).image(0)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_one_to_five_objects_with_boxes_inside_the_image(shapes: Shapes) -> None:
    counts = set()
    for index in range(MANY):
        objects = shapes.annotations(index)
        counts.add(len(objects))
        assert (objects.boxes >= 0).all()
        assert (objects.boxes <= 160).all()
        assert (objects.boxes[:, 2:] - objects.boxes[:, :2] > 4).all()
        assert not objects.ignore.any()
    assert counts == {1, 2, 3, 4, 5}


def test_sides_run_from_a_seventh_to_over_half_of_the_image(shapes: Shapes) -> None:
    boxes = np.array(
        [one.box for i in range(MANY) for one in shapes.scene(i) if one.label is not None]
    )
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 12 - 1e-9
    assert 0.15 * 160 <= sides.max(axis=1).min() < 25
    assert 87 < sides.max() <= 0.55 * 160 + 1e-9


def test_classes_are_equally_frequent(shapes: Shapes) -> None:
    labels = np.concatenate([shapes.annotations(index).labels for index in range(MANY)])
    shares = np.bincount(labels, minlength=8) / len(labels)
    # 4,000 objects: the deviation of a share of 1/8 is 0.0052.
    assert np.abs(shares - 1 / 8).max() < 0.02
    assert len(shapes.classes) == len(shapes.category_ids) == 8


def test_classes_have_the_same_sizes(shapes: Shapes) -> None:
    sides: list[list[float]] = [[] for _ in range(8)]
    for index in range(MANY):
        for one in shapes.scene(index):
            if one.label is not None:
                sides[one.label].append(max(one.box[2] - one.box[0], one.box[3] - one.box[1]))
    means = [np.mean(group) / 160 for group in sides]
    assert max(means) - min(means) < 0.05  # about 0.31 each


def test_of_every_object_at_least_two_fifths_are_visible(shapes: Shapes) -> None:
    shares = []
    for index in range(300):
        hidden = np.zeros((160, 160), dtype=np.bool_)
        for figure in reversed(shapes.scene(index)):
            mask = figure.mask(-80, -80, 240, 240)  # with what lies beyond the edge
            within = mask[80:240, 80:240]
            if figure.label is not None:
                shares.append((within & ~hidden).sum() / mask.sum())
            hidden |= within
    assert min(shares) > 0.40
    assert np.mean(np.array(shares) < 0.9) > 0.15  # and many are covered or cut in part


def test_a_box_is_tight_around_the_outline() -> None:
    shapes = Shapes(100, seed=2)
    for figure in (one for index in range(100) for one in shapes.scene(index)):
        if figure.label is None:
            continue
        x0, y0 = (floor(start) - 8 for start in figure.box[:2])
        x1, y1 = (ceil(end) + 8 for end in figure.box[2:])
        rows, columns = np.nonzero(figure.mask(x0, y0, x1, y1, samples=8))
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 8
        # A sharp tip covers no sample center in the last bit of its length.
        np.testing.assert_allclose(found + np.array([x0, y0, x0, y0]), figure.box, atol=0.3)


def test_distractors_are_in_two_thirds_of_the_scenes_and_in_no_annotation(shapes: Shapes) -> None:
    scenes = [shapes.scene(index) for index in range(200)]
    distracted = sum(any(figure.label is None for figure in scene) for scene in scenes)
    assert 110 < distracted < 160  # none in a third of them
    for index, scene in enumerate(scenes):
        labels = [figure.label for figure in scene if figure.label is not None]
        assert shapes.annotations(index).labels.tolist() == labels


def test_annotations_say_which_image_they_belong_to() -> None:
    objects = Shapes(4, seed=2, split=1).annotations(3)
    assert (objects.image_id, objects.width, objects.height) == (3, 160, 160)
    assert objects.file_name == "shapes-2-1-000003.png"
    assert objects.ids[0] == 30001


def test_there_is_no_image_beyond_the_last() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"no image {index} in a data set of 3"):
            Shapes(3).annotations(index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "cannot make 0 shapes images; give 1 or more"),
        ({"count": 1, "size": 32}, "shapes images of 32 pixels are too small; give 64 or more"),
        ({"count": 1, "seed": -1}, "shapes seed -1, split 0: expected numbers from 0"),
        ({"count": 1, "split": 2**63}, "expected numbers from 0"),
    ],
)
def test_impossible_data_sets_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Shapes(**arguments)
