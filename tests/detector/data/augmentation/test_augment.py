"""Random changes of training images."""

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detector.data.augmentation.augment import color, flip, random_color, random_crop, random_flip

images = arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)))
boxes = arrays(np.float64, st.tuples(st.integers(0, 3), st.just(4)), elements=st.integers(0, 6))


@settings(deadline=None, max_examples=50)
@given(images, boxes)
def test_flipping_twice_gives_the_image_and_its_boxes_back(
    image: np.ndarray, boxes: np.ndarray
) -> None:
    again, same = flip(*flip(image, boxes))
    assert np.array_equal(again, image)
    assert np.array_equal(same, boxes)


def test_a_box_follows_the_pixels_it_encloses() -> None:
    image = np.zeros((4, 10, 3), np.uint8)
    image[1:3, 2:5] = 255
    mirrored, moved = flip(image, np.array([[2.0, 1.0, 5.0, 3.0]]))
    assert moved.tolist() == [[5, 1, 8, 3]]
    assert (mirrored[1:3, 5:8] == 255).all()
    assert mirrored.sum() == image.sum()


def test_the_share_of_flipped_images_is_the_probability() -> None:
    generator = np.random.default_rng(0)
    image, none = np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.zeros((0, 4))
    flips = sum(
        not np.array_equal(random_flip(image, none, 0.3, generator)[0], image) for _ in range(2000)
    )
    assert 540 <= flips <= 660  # 600, deviation 20
    assert np.array_equal(random_flip(image, none, 0, generator)[0], image)
    assert not np.array_equal(random_flip(image, none, 1, generator)[0], image)


def test_a_flip_takes_one_number_whatever_comes_of_it() -> None:
    image, none = np.zeros((1, 2, 3), np.uint8), np.zeros((0, 4))
    after = []
    for probability in (0.0, 0.5, 1.0):
        generator = np.random.default_rng(0)
        random_flip(image, none, probability, generator)
        after.append(generator.random())
    assert after[0] == after[1] == after[2]


LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R 601, as Pillow's L

colors = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_brightness_contrast_and_saturation_by_their_formulas() -> None:
    exact = colors.astype(np.float64)
    brighter = (exact * 1.4).clip(0, 255)
    assert np.abs(color(colors, 1.4, 1, 1, 0) - brighter).max() <= 1
    mean = round((exact @ LUMINANCE).mean())
    flatter = mean + (exact - mean) * 0.6
    assert np.abs(color(colors, 1, 0.6, 1, 0) - flatter).max() <= 1.5
    gray = (exact @ LUMINANCE)[..., None]
    stronger = (gray + (exact - gray) * 1.7).clip(0, 255)
    assert np.abs(color(colors, 1, 1, 1.7, 0) - stronger).max() <= 2


@pytest.mark.parametrize("turn", [1 / 3, -0.25])
def test_the_hue_turns_and_nothing_else(turn: float) -> None:
    turned = color(colors, 1, 1, 1, turn)
    for before, after in zip(colors.reshape(-1, 3) / 255, turned.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)) * 255
        assert np.abs(after - expected).max() <= 12  # hues are of 256 steps, on either way


def test_no_change_of_color_is_none() -> None:
    assert np.array_equal(color(colors, 1, 1, 1, 0), colors)
    assert np.array_equal(random_color(colors, 0, np.random.default_rng(0)), colors)


def test_random_colors_are_as_strong_as_asked() -> None:
    gray = np.full((2, 2, 3), 100, np.uint8)  # only brightness changes a plain gray
    values = [random_color(gray, 1, np.random.default_rng(i))[0, 0, 0] for i in range(300)]
    assert 50 <= min(values) < 55
    assert 180 < max(values) <= 200
    assert 88 < np.median(values) < 113
    weak = [random_color(gray, 0.1, np.random.default_rng(i))[0, 0, 0] for i in range(300)]
    assert 90 <= min(weak) < max(weak) <= 110


def painted(height: int, width: int, boxes: list[list[int]]) -> np.ndarray:
    """An image whose pixels say which of up to eight boxes they are in, a bit each."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit, (x0, y0, x1, y1) in enumerate(boxes):
        image[y0:y1, x0:x1] |= np.uint8(1 << bit)
    return image


def found(image: np.ndarray, count: int) -> list[list[int]]:
    """The boxes that the pixels of such an image show."""
    shown = []
    for bit in range(count):
        rows, columns = np.nonzero(image[..., 0] & (1 << bit))
        shown.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return shown


@settings(max_examples=100)
@given(st.data())
def test_a_crop_holds_every_box_whole(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    boxes = []
    for _ in range(data.draw(st.integers(0, 4))):
        x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
        boxes.append([x0, y0, x1, y1])
    image = painted(height, width, boxes)
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    cut, moved = random_crop(image, np.array(boxes, float).reshape(-1, 4), 1, generator)
    assert moved.tolist() == found(cut, len(boxes))
    assert cut.shape[0] >= round(0.3 * height) > 0.3 * height - 1
    assert cut.shape[1] >= round(0.3 * width) > 0.3 * width - 1
    assert cut.size > 0


def test_crops_reach_from_the_least_window_to_the_whole_image() -> None:
    image, none = np.zeros((100, 200, 3), np.uint8), np.zeros((0, 4))
    windows = [random_crop(image, none, 1, np.random.default_rng(i))[0].shape for i in range(400)]
    widths = [window[1] for window in windows]
    assert min(widths) < 65
    assert max(widths) > 185
    assert min(widths) >= 60
    kept = sum(
        random_crop(image, none, 0.3, np.random.default_rng(i))[0] is image for i in range(1000)
    )
    assert 650 < kept < 750


def test_what_of_a_box_lies_outside_the_image_holds_no_crop_back() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[-50.0, 40, 10, 60], [200, 200, 300, 300]])
    for i in range(50):
        cut, moved = random_crop(image, boxes, 1, np.random.default_rng(i))
        assert moved[0, 0] == -50  # the left edge has nowhere to go
        assert 0 <= moved[0, 1] < moved[0, 3] <= cut.shape[0]
        assert (moved[1, :2] >= cut.shape[1::-1]).all()
