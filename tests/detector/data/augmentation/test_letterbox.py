"""The square network input, and boxes there and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.data.augmentation.letterbox import GRAY, MEAN_COLOR, Placement, letterbox, normalize
from detector.data.formats.coco import Coco
from detector.data.formats.voc import Voc

sides = st.integers(min_value=1, max_value=3000)
sizes = st.integers(min_value=32, max_value=1280)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def xyxy(cxcywh: np.ndarray) -> np.ndarray:
    center, extent = cxcywh[..., :2], cxcywh[..., 2:]
    return np.concatenate((center - extent / 2, center + extent / 2), axis=-1)


def test_a_placement_worked_out_by_hand() -> None:
    # 500 x 333 into 480: 333 * 480 / 500 = 319.68 -> 320; 160 rows of padding, 80 above.
    assert Placement.of(500, 333, 480) == Placement(
        scale_x=480 / 500, scale_y=320 / 333, left=0, top=80, width=500, height=333, size=480
    )


def test_an_odd_pixel_of_padding_goes_to_the_right_or_the_bottom() -> None:
    # 40 x 100 into 101: width 40.4 -> 40, padding 61 = 30 + 31.
    square, placement = letterbox(np.full((100, 40, 3), 255, np.uint8), 101, (0, 0, 0))
    assert placement.left == 30
    columns = square.sum(dim=(0, 1)).nonzero().flatten().tolist()
    assert columns == list(range(30, 70))


def test_the_longer_side_always_fills_the_square() -> None:
    # By truncation some come out a pixel short: 349 * (480 / 349) is 479.99999999999994.
    for width in range(333, 734):
        placement = Placement.of(width, 333, 480)
        content = placement.to_input(np.array([0.0, 0.0, width, 333.0]))
        assert max(content[2:]) == pytest.approx(1, abs=1e-12)


@settings(deadline=None, max_examples=300)
@given(sides, sides, sizes, st.lists(st.floats(0, 1), min_size=4, max_size=4), st.booleans())
def test_a_box_returns_from_the_square_to_where_it_was(
    width: int, height: int, size: int, corners: list[float], as_tensor: bool
) -> None:
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    boxes = np.array([[x0 * width, y0 * height, x1 * width, y1 * height]])
    placement = Placement.of(width, height, size)
    placed = xyxy(placement.to_input(boxes))
    assert (placed >= -1e-12).all()
    assert (placed <= 1 + 1e-12).all()
    if as_tensor:
        back = placement.to_original(torch.tensor(placed)).numpy()
    else:
        back = placement.to_original(placed)
    np.testing.assert_allclose(back, boxes, atol=1e-8)


def test_boxes_return_on_the_sizes_of_real_images(shared: Path) -> None:
    coco = Coco(shared / "data/coco/annotations/instances_val2017.json", shared / "data/coco")
    voc = Voc(shared / "data/voc", "trainval")
    for dataset in (coco, voc):
        for index in range(len(dataset)):
            objects = dataset.annotations(index)
            placement = Placement.of(objects.width, objects.height, 480)
            back = placement.to_original(xyxy(placement.to_input(objects.boxes)))
            edge = (objects.width, objects.height) * 2
            np.testing.assert_allclose(back, objects.boxes.clip(0, edge), atol=1e-9)


def test_boxes_of_a_detector_are_clipped_to_the_image() -> None:
    # 100 x 50 in a square of 100: rows 25..75. The padding above and below is not image.
    placement = Placement.of(100, 50, 100)
    boxes = torch.tensor([[-0.5, 0.0, 0.5, 2.0], [1.5, 0.9, 2.0, 1.0]])
    assert placement.to_original(boxes).tolist() == [[0, 0, 50, 50], [100, 50, 100, 50]]
    assert placement.to_original(boxes).dtype == torch.float32


def test_tensors_and_arrays_are_placed_alike_in_any_batch_shape() -> None:
    placement = Placement.of(640, 427, 320)
    boxes = np.random.default_rng(0).uniform(0, 400, (2, 3, 4))
    np.testing.assert_array_equal(
        placement.to_input(torch.tensor(boxes)).numpy(), placement.to_input(boxes)
    )
    whole = np.array([[0, 0, 640, 427]])  # integers are boxes too
    np.testing.assert_allclose(xyxy(placement.to_input(whole)), [[0, 53 / 320, 1, 267 / 320]])


@pytest.mark.parametrize(("height", "width", "size"), [(90, 120, 64), (40, 30, 96), (64, 64, 64)])
def test_resizing_agrees_with_pillows_antialiased_bilinear(
    height: int, width: int, size: int
) -> None:
    image = noise(height, width)
    square, placement = letterbox(image, size, GRAY)
    new_width, new_height = round(width * placement.scale_x), round(height * placement.scale_y)
    expected = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    rows = slice(placement.top, placement.top + new_height)
    columns = slice(placement.left, placement.left + new_width)
    found = square[:, rows, columns].permute(1, 2, 0).numpy() * 255
    # Pillow rounds to whole values after each of its two passes.
    assert np.abs(found - np.asarray(expected, dtype=np.float64)).max() < 1.5


def test_an_image_that_fits_is_unchanged() -> None:
    image = noise(64, 64)
    square, _ = letterbox(image, 64, GRAY)
    np.testing.assert_allclose(square.permute(1, 2, 0).numpy() * 255, image, atol=1e-4)


def test_the_square_is_float32_within_0_and_1() -> None:
    for value in (0, 255):
        square, _ = letterbox(np.full((77, 131, 3), value, np.uint8), 96, (0.25, 0.5, 0.75))
        assert square.shape == (3, 96, 96)
        assert square.dtype == torch.float32
        assert square.min() >= 0
        assert square.max() <= 1
        assert square[:, 0, 0].tolist() == [0.25, 0.5, 0.75]


def test_mean_padding_is_zero_after_normalization() -> None:
    square, _ = letterbox(noise(10, 40), 32, MEAN_COLOR)
    assert torch.count_nonzero(normalize(square)[:, 0]) == 0


def test_normalization_by_hand() -> None:
    # ImageNet: red (1 - 0.485) / 0.229, green (0 - 0.456) / 0.224, blue (0.406 - 0.406) / 0.225.
    image = torch.tensor([1.0, 0.0, 0.406]).view(3, 1, 1)
    expected = [2.2489082, -2.0357144, 0.0]
    assert normalize(image).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(normalize(image[None])[0], normalize(image))


@pytest.mark.parametrize(("height", "width"), [(1, 1000), (1000, 1), (1, 1)])
def test_a_sliver_of_an_image_keeps_at_least_one_pixel(height: int, width: int) -> None:
    square, placement = letterbox(np.full((height, width, 3), 255, np.uint8), 32, (0, 0, 0))
    assert square.sum() > 0
    np.testing.assert_allclose(
        placement.to_original(xyxy(placement.to_input(np.array([0.0, 0.0, width, height])))),
        [0, 0, width, height],
    )


def test_mirrored_views_are_accepted() -> None:
    image = noise(20, 30)
    mirrored, _ = letterbox(image[:, ::-1], 32, GRAY)
    plain, _ = letterbox(image, 32, GRAY)
    torch.testing.assert_close(mirrored[:, :, 1:31].flip(2), plain[:, :, 1:31])


def test_a_mirrored_column_is_the_column() -> None:
    """NumPy calls it contiguous, with a stride that torch refuses."""
    column = noise(20, 1)
    assert torch.equal(letterbox(column[:, ::-1], 32, GRAY)[0], letterbox(column, 32, GRAY)[0])
