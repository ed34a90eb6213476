"""Images come out as stored RGB pixels, or as one clear line about the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.data.dataset import (
    Annotations,
    limit,
    notes_on,
    object_ids,
    read_image,
    rest,
    sample,
    shuffled,
    subset,
)
from detector.data.shapes import Shapes
from detector.errors import UserError

RED, GREEN = (200, 10, 20), (10, 190, 30)


def test_rgb_pixels_are_unchanged(tmp_path: Path) -> None:
    Image.fromarray(np.array([[RED, GREEN]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 2, 1).tolist() == [[list(RED), list(GREEN)]]


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (*RED, 0), RED),
        ("LA", (77, 0), (77, 77, 77)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_every_color_mode_becomes_rgb(
    mode: str, color: float | tuple[int, ...], expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (3, 2), color).save(path)
    assert read_image(path, 3, 2).tolist() == [[list(expected)] * 3] * 2


@pytest.mark.parametrize("transparency", [0, b"\x00\x80"])
def test_a_palette_with_transparency_becomes_rgb(transparency: object, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=transparency)
    assert read_image(tmp_path / "a.png", 2, 1).tolist() == [[list(RED), list(GREEN)]]


def test_an_image_is_the_callers_own(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 2, 2).flags.writeable


def test_a_size_other_than_the_annotation_gives_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: image is 8x4, its annotation says 4x8$"):
        read_image(tmp_path / "a.png", 4, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "webp"])
def test_a_broken_image_is_named_in_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2):
        path.write_bytes(data[:cut])
        with pytest.raises(UserError, match=rf"a\.{suffix}: image does not decode: .+$") as caught:
            read_image(path, 40, 40)
        assert "\n" not in str(caught.value)


def test_a_missing_image_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: image file is missing$"):
        read_image(tmp_path / "a.png", 4, 8)
    with pytest.raises(UserError, match="does not decode"):
        read_image(tmp_path, 4, 8)


@pytest.mark.parametrize("name", ["images/a.png", "images\\a.png", "a.png"])
def test_a_missing_image_that_lies_near_is_told_with_its_folder(name: str, tmp_path: Path) -> None:
    """File names that repeat the folder of ``--images``, or have Windows' separators."""
    folder = tmp_path / "images"
    there = folder if "images" in name else folder / "val"
    there.mkdir(parents=True)
    Image.new("RGB", (4, 8)).save(there / "a.png")
    with pytest.raises(UserError, match="image file is missing") as caught:
        read_image(folder / name, 4, 8)
    assert str(caught.value).endswith(f"image file is missing; there is one in {there}")


def test_an_image_too_large_to_be_honest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UserError, match="does not decode"):
        read_image(tmp_path / "a.png", 8, 8)


def test_annotations_cannot_be_written_to() -> None:
    objects = Shapes(1).annotations(0)
    with pytest.raises(ValueError, match="read-only"):
        objects.boxes[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        objects.labels[0] = 0


def test_a_subset_has_the_chosen_images_in_the_chosen_order() -> None:
    shapes = Shapes(5)
    chosen = subset(shapes, [4, 1])
    assert len(chosen) == 2
    assert [chosen.annotations(i).image_id for i in range(2)] == [4, 1]
    assert np.array_equal(chosen.image(0), shapes.image(4))
    assert (chosen.classes, chosen.category_ids) == (shapes.classes, shapes.category_ids)
    with pytest.raises(IndexError, match="no image 5 in a data set of 5"):
        subset(shapes, [0, 5])


def test_a_limit_takes_the_first_images() -> None:
    first = limit(Shapes(5), 3)
    assert [first.annotations(i).image_id for i in range(len(first))] == [0, 1, 2]
    assert len(limit(Shapes(5), 9)) == 5
    assert notes_on(limit(first, 3)) == ()
    told = ("9 images are asked for, and there are 3",)
    assert notes_on(limit(first, 9)) == notes_on(sample(first, 9)) == told
    assert notes_on(shuffled(limit(first, 9))) == told
    with pytest.raises(UserError, match="cannot limit a data set to 0 images; give 1 or more"):
        limit(Shapes(5), 0)


def test_the_rest_is_what_is_not_in_a_part() -> None:
    part = limit(shuffled(subset(Shapes(9), [8, 6, 4, 2, 0])), 3)
    seen, others = (
        {one.annotations(i).image_id for i in range(len(one))} for one in (part, rest(part))
    )
    assert (len(seen), len(others)) == (3, 6)
    assert seen | others == set(range(9))
    assert len(rest(Shapes(9))) == len(rest(limit(Shapes(9), 9))) == 0


def test_object_ids_follow_from_the_image() -> None:
    assert object_ids(0, 2).tolist() == [1, 2]
    assert object_ids(2008000005, 3).tolist() == [20080000050001, 20080000050002, 20080000050003]


def test_length_is_the_number_of_objects() -> None:
    objects: Annotations = Shapes(1).annotations(0)
    assert len(objects) == len(objects.boxes)


def test_a_sample_is_fixed_by_its_seed_and_grows_by_adding() -> None:
    def ids(count: int, seed: int = 0) -> list[int]:
        chosen = sample(Shapes(50), count, seed)
        return [chosen.annotations(i).image_id for i in range(len(chosen))]

    assert len(set(ids(10))) == 10
    assert ids(10) == ids(10) == sorted(ids(10))
    assert ids(10) not in (list(range(10)), ids(10, seed=1))
    assert set(ids(10)) < set(ids(20))
    assert ids(99) == list(range(50))
    with pytest.raises(UserError, match="cannot sample 0 images of a data set; give 1 or more"):
        ids(0)


def test_samples_take_every_image_as_often() -> None:
    counts = np.zeros(20)
    for seed in range(200):
        chosen = sample(Shapes(20), 5, seed)
        counts[[chosen.annotations(i).image_id for i in range(5)]] += 1
    assert (np.abs(counts - 50) < 30).all()  # standard deviation 6.1
