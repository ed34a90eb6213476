"""Random changes of training images."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detector.data.augment import flip, random_flip

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
