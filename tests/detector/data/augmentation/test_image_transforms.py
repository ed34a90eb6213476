"""Transforms follow from their generator, keep to their ranges, and compute what they say."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image

from detector.data.augmentation.image_transforms import (
    Augment,
    CenterCrop,
    color_jitter,
    erase,
    random_crop,
)
from detector.data.augmentation.letterbox import MEAN, STD
from detector.data.augmentation.rand_augment import OPERATIONS, rand_augment
from detector.data.classification import ShapeCrops
from detector.data.classification_training import TransformedImages, mix, mixing_generator

PHOTO = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def pixels(image: torch.Tensor) -> np.ndarray:
    """A normalized image as (H, W, 3) values 0 to 255."""
    shown = image.double().numpy().transpose(1, 2, 0) * STD + np.array(MEAN)
    return 255 * shown


def test_an_item_depends_on_seed_epoch_and_index_alone() -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    crops = ShapeCrops(4)
    one, again = (TransformedImages(crops, Augment(48), seed=5) for _ in range(2))
    first = one[2, 3][0]
    one[1, 3], one[2, 0]
    assert torch.equal(first, again[2, 3][0])
    assert first.shape == (3, 48, 48)
    assert first.is_contiguous()
    for other in (one[1, 3], one[2, 2], TransformedImages(crops, Augment(48), seed=6)[2, 3]):
        assert not torch.equal(first, other[0])
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002


def test_everything_off_is_the_resized_image() -> None:
    plain = Augment(50, area=(1.0, 1.0), flip=0.0, randaugment=None, jitter=None, erase=0.0)
    square = PHOTO[:, :50]
    shown = pixels(plain(square, np.random.default_rng(1)))
    np.testing.assert_allclose(shown, square, atol=1e-4)
    mirrored = Augment(50, (1.0, 1.0), 1.0, None, None, 0.0)(square, np.random.default_rng(1))
    np.testing.assert_allclose(pixels(mirrored), square[:, ::-1], atol=1e-4)


def test_the_center_of_an_image() -> None:
    shown = pixels(CenterCrop(20, 50)(PHOTO))
    np.testing.assert_allclose(shown, PHOTO[15:35, 25:45], atol=1e-4)
    assert CenterCrop(224, 256)(PHOTO[:, :7]).shape == (3, 224, 224)


def test_crops_keep_to_their_ranges() -> None:
    generator = np.random.default_rng(2)
    shares, ratios = [], []
    for _ in range(2000):
        left, top, right, bottom = random_crop(200, 200, (0.08, 1.0), generator)
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 200
        shares.append((right - left) * (bottom - top) / 200**2)
        ratios.append((right - left) / (bottom - top))
    assert 0.075 < min(shares) < 0.09
    assert max(shares) > 0.95
    assert 0.74 < min(ratios) < 0.76
    assert 1.32 < max(ratios) < 1.35
    assert abs(np.mean(np.log(ratios))) < 0.02
    # Nothing of an allowed ratio fits into a strip, but its middle.
    assert random_crop(300, 30, (0.9, 1.0), generator) == (130, 0, 170, 30)


def test_erasing_keeps_to_its_ranges() -> None:
    generator = np.random.default_rng(3)
    shares = []
    for _ in range(300):
        image = torch.full((3, 60, 60), 7.0)
        erase(image, generator)
        rows, columns = torch.where(image[0] != 7)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width
        shares.append(len(rows) / 3600)
    assert min(shares) > 0.018
    assert max(shares) < 0.21
    assert abs(np.mean(shares) - 0.11) < 0.01


def test_colors_against_a_naive_definition() -> None:
    """Each factor alone, on plain colors where the ways to compute it agree."""
    color = np.array([180, 90, 60])
    image = Image.new("RGB", (2, 2), tuple(color.tolist()))
    generator = np.random.default_rng
    draws = generator(4).uniform(-1, 1, 4)
    gray = np.dot(color, (0.299, 0.587, 0.114))
    expected = {
        0: color * (1 + 0.4 * draws[0]),
        1: gray + (color - gray) * (1 + 0.4 * draws[1]),  # the mean of the picture
        2: gray + (color - gray) * (1 + 0.4 * draws[2]),
    }
    hue, saturation, value = colorsys.rgb_to_hsv(*(color / 255))
    expected[3] = 255 * np.array(colorsys.hsv_to_rgb((hue + 0.1 * draws[3]) % 1, saturation, value))
    for which, wanted in expected.items():
        strengths = [0.0, 0.0, 0.0, 0.0]
        strengths[which] = 0.1 if which == 3 else 0.4
        made = color_jitter(image, tuple(strengths), generator(4))
        np.testing.assert_allclose(made.getpixel((0, 0)), wanted, atol=4)


def test_geometric_operations_against_a_naive_definition() -> None:
    image = Image.fromarray(PHOTO)
    for which, matrix in {
        1: (1, 0.3 * 0.5, 0, 0, 1, 0),
        2: (1, 0, 0, 0.3 * 0.5, 1, 0),
        3: (1, 0, round(150 / 331 * 70 * 0.5), 0, 1, 0),
        4: (1, 0, 0, 0, 1, round(150 / 331 * 50 * 0.5)),
    }.items():
        made = np.array(OPERATIONS[which](image, 0.5))
        a, b, c, d, e, f = matrix
        for y, x in ((0, 0), (3, 50), (24, 31), (40, 60)):
            u = math.floor(a * (x + 0.5) + b * (y + 0.5) + c)
            v = math.floor(d * (x + 0.5) + e * (y + 0.5) + f)
            inside = 0 <= u < 70 and 0 <= v < 50
            assert made[y, x].tolist() == (PHOTO[v, u].tolist() if inside else [0, 0, 0])


def test_bytewise_operations_against_a_naive_definition() -> None:
    image, share = Image.fromarray(PHOTO), 9 / 30
    values = PHOTO.astype(np.int64)
    posterized = values & ~((1 << round(4 * share)) - 1)
    assert np.array_equal(np.array(OPERATIONS[10](image, -share)), posterized)
    solarized = np.where(values < round(255 * (1 - share)), values, 255 - values)
    assert np.array_equal(np.array(OPERATIONS[11](image, share)), solarized)
    assert OPERATIONS[0](image, share) is image


def test_rand_augment_uses_every_operation_either_way() -> None:
    paler = (PHOTO * 0.9 + 10).astype(np.uint8)  # so that there is contrast to stretch
    image, generator = Image.fromarray(paler), np.random.default_rng(5)
    made = {rand_augment(image, 1, 9, generator).tobytes() for _ in range(400)}
    assert len(made) == 1 + 2 * 9 + 4  # unchanged; nine that go either way; four that do not
    assert rand_augment(image, 2, 9, np.random.default_rng(8)).tobytes() not in made


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_mixed_images_and_targets_have_the_same_shares(mixup: float, cutmix: float) -> None:
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 16, 12).contiguous()
    targets = torch.eye(5)
    kinds = set()
    for batch in range(60):
        mixed, wanted = mix(images, targets, 1.0, mixup, cutmix, mixing_generator(1, 2, batch))
        share = float(wanted[0, 0])
        torch.testing.assert_close(wanted.sum(1), torch.ones(5))
        torch.testing.assert_close(mixed.mean((1, 2, 3)), wanted @ torch.arange(5.0))
        assert float(wanted[4, 0]) == pytest.approx(1 - share, abs=1e-6)
        if 0.05 < share < 0.95:
            kinds.add("cut" if len(mixed[0].unique()) == 2 else "blend")
    assert kinds == {name for name, alpha in (("cut", cutmix), ("blend", mixup)) if alpha}
    assert torch.equal(images[:, 0, 0, 0], torch.arange(5.0))  # the batch itself is left alone


def test_how_often_batches_are_mixed() -> None:
    images, targets = torch.rand(2, 3, 8, 8), torch.eye(2)
    mixed = [
        mix(images, targets, 0.3, 0.5, 0.0, mixing_generator(0, 0, batch))[0] is not images
        for batch in range(600)
    ]
    assert 0.24 < np.mean(mixed) < 0.36
    assert mix(images, targets, 0.0, 0.5, 0.0, mixing_generator(0, 0, 0))[0] is images
