"""Four images as one."""

import numpy as np
import pytest

from detector.data.augmentation.mosaic import MosaicTile, mosaic


def picture(height: int, width: int, box: list[float], color: int, label: int) -> MosaicTile:
    """One bright box in channel 0 on a ground that channel 1 names."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = color
    x0, y0, x1, y1 = (round(value) for value in box)
    image[y0:y1, x0:x1, 0] = 255
    return MosaicTile(image, np.array([box], dtype=np.float64), np.array([label]))


def four(box: tuple[float, float, float, float]) -> list[MosaicTile]:
    """Four shapes of image with a box at the same shares of their sides."""
    shapes = [(90, 120), (200, 80), (64, 64), (150, 300)]
    return [
        picture(h, w, [box[0] * w, box[1] * h, box[2] * w, box[3] * h], 50 * (i + 1), i)
        for i, (h, w) in enumerate(shapes)
    ]


@pytest.mark.parametrize("seed", range(30))
def test_boxes_enclose_what_was_painted_in_them(seed: int) -> None:
    made = mosaic(four((0.25, 0.25, 0.75, 0.75)), 128, np.random.default_rng(seed))
    assert made.image.shape == (128, 128, 3)
    assert made.image.dtype == np.uint8
    for box, label in zip(made.boxes, made.labels, strict=True):
        own = (made.image[..., 1] == 50 * (label + 1)) & (made.image[..., 0] > 127)
        rows, columns = np.nonzero(own)
        shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(box - shown).max() <= 1  # resampling may move an edge by less than a pixel


def quarters(image: np.ndarray) -> tuple[int, int]:
    """The point where the four meet, read from the colors of the ground."""
    ground = image[..., 1]
    return int((ground[0] == 50).sum()), int((ground[:, 0] == 50).sum())


def test_each_image_covers_its_quarter_and_the_point_where_they_meet_moves() -> None:
    points = set()
    for seed in range(50):
        image = mosaic(four((0, 0, 0.01, 0.01)), 100, np.random.default_rng(seed)).image
        x, y = quarters(image)
        assert 30 <= x <= 70
        assert 30 <= y <= 70
        expected = np.full((100, 100), 50)
        expected[:y, x:], expected[y:, :x], expected[y:, x:] = 100, 150, 200
        assert np.array_equal(image[..., 1], expected)
        points.add((x, y))
    assert len(points) > 40


def test_an_object_of_which_little_is_seen_is_left_out() -> None:
    # Ten objects side by side in a strip: what the window cuts through is kept by its seen share.
    strip = np.zeros((20, 400, 3), np.uint8)
    boxes = np.array([[40.0 * i, 0, 40 * i + 40, 20] for i in range(10)])
    for i in range(10):
        strip[:, 40 * i : 40 * i + 40, 0] = 20 * (i + 1)
    one = MosaicTile(strip, boxes, np.arange(10))
    none = MosaicTile(np.zeros((10, 10, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64))
    cut, dropped = 0, 0
    for seed in range(60):
        made = mosaic([one, none, none, none], 200, np.random.default_rng(seed))
        height = (made.image[:, 0, 0] > 0).sum()  # the strip fills its quarter's
        seen = {}
        for i in range(10):  # columns of the first row in the object's color, by nearest color
            near = np.abs(made.image[0, :, 0].astype(int) - 20 * (i + 1)) < 10
            seen[i] = near.sum() / (40 * height / 20)
        for i, share in seen.items():
            if abs(share - 0.3) > 0.03:
                assert (i in made.labels) == (share > 0.3), (seed, i, share)
            cut += 0.34 < share < 0.95
            dropped += 0.02 < share < 0.26
    assert cut > 10
    assert dropped > 10


def test_images_without_objects_make_one_without() -> None:
    none = MosaicTile(np.zeros((7, 3, 3), np.uint8), np.zeros((0, 4)), np.zeros(0, np.int64))
    made = mosaic([none] * 4, 64, np.random.default_rng(0))
    assert made.boxes.shape == (0, 4)
    assert made.labels.shape == (0,)
