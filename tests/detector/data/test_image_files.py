"""Images of any depth and orientation become RGB of 8 bits by one rule, or one clear line."""

import contextlib
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from detector.data.classification import HuggingFaceImages
from detector.data.image_files import Exif, decode, find_image, read_image, remarks, stored_image
from detector.errors import UserError

DEEP = np.array([[0, 257, 44_000], [65_535, 4096, 255]], dtype=np.uint16)
WITH_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
HIGH = [[0, 1, 171], [255, 16, 0]]


def grey(pixels: Any) -> list[list[int]]:
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0].tolist()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_16_bits_are_scaled_by_the_range_of_the_type(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(DEEP).save(path)
    assert grey(decode(path)) == HIGH
    if suffix != "jp2":  # Pillow does not say of JPEG 2000 what its file holds
        assert remarks(path) == ["16 bits are scaled to 8: the high byte is taken"]


@pytest.mark.parametrize("largest", [0, 1, 3520, 4095, 4096])
def test_16_bits_that_would_be_black_are_refused(largest: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, largest]], dtype=np.uint16)).save(path)
    if largest in (0, 4096):  # a black image is one
        assert grey(decode(path)) == [[0, largest >> 8]]
        return
    with pytest.raises(UserError, match=r"a\.png: image of 16 bits that uses no more than 12"):
        decode(path)


def test_colors_of_16_bits(tmp_path: Path) -> None:
    """A PNG of 16 bits per color, which Pillow cannot write."""
    import struct
    import zlib

    def png(values: list[int]) -> Path:
        def chunk(name: bytes, data: bytes) -> bytes:
            check = zlib.crc32(name + data)
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

        path = tmp_path / "c.png"
        header = struct.pack(">IIBBBBB", len(values) // 3, 1, 16, 2, 0, 0, 0)
        data = zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values))
        signature = b"\x89PNG\r\n\x1a\n"
        path.write_bytes(
            signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        )
        return path

    path = png([44_000, 257, 65_535])
    assert decode(path).tolist() == [[[171, 1, 255]]]
    assert np.array_equal(decode(path, "apply"), decode(path))
    assert remarks(path) == ["16 bits are scaled to 8: the high byte is taken"]
    with pytest.raises(UserError, match="no more than 12 of them"):
        decode(png([3520, 624, 100]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 44_000]], dtype=np.int32), "image of 32-bit integers, whose range is not"),
        (np.array([[0, 1.5]], dtype=np.float32), "image of floats from 0 to 1.5; expected 0 to 1"),
        (np.array([[-0.5, 1]], dtype=np.float32), "image of floats from -0.5 to 1; expected"),
        (np.array([[np.nan, 1]], dtype=np.float32), "image of floats from nan to nan; expected"),
    ],
)
def test_a_range_that_cannot_be_told_is_refused(values: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(UserError, match=rf"a\.tif: {message}") as refused:
        decode(path)
    assert "\n" not in str(refused.value)


def test_floats_from_0_to_1(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 0.8627451, 0.15294118, 1]], dtype=np.float32)).save(path)
    assert grey(decode(path)) == [[0, 220, 39, 255]]
    assert remarks(path) == ["floats from 0 to 1 are scaled to 8 bits"]


def turned(pixels: Any, orientation: int) -> Any:
    """By the definition of TIFF 6: where row 0 and column 0 of the stored pixels are shown."""
    if orientation in (2, 3, 6, 7):  # column 0 at the right; of 5 to 8, row 0
        pixels = pixels[:, ::-1] if orientation < 5 else pixels[::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1] if orientation < 5 else pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if orientation > 4 else pixels


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_on_request_only(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (3, 5, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(stored).save(path, exif=exif, **options)
    assert np.array_equal(decode(path), stored)
    shown = decode(path, "apply")
    assert np.array_equal(shown, turned(stored, orientation))
    assert len(remarks(path)) == (orientation > 1)
    assert read_image(path, shown.shape[1], shown.shape[0], "apply").shape == shown.shape
    if orientation > 4:
        for exif_read, width, told in (("ignore", 3, "not applied"), ("apply", 5, "applied")):
            treated: Exif = exif_read
            message = f"annotation says {width}x{8 - width}: EXIF orientation {orientation} is "
            with pytest.raises(UserError, match=message + told):
                read_image(path, width, 8 - width, treated)


def test_damaged_exif_is_no_orientation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4, 2)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken")
    assert decode(path, "apply").shape == (2, 4, 3)
    assert remarks(path) == []


def test_what_pixels_depend_on_is_part_of_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 2)).save(path)
    assert stored_image(path) == path.read_bytes() != stored_image(path, "apply")


def test_an_image_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.PNG").touch()
    (tmp_path / "b.jpeg").touch()
    assert [find_image(tmp_path, name).name for name in "abc"] == ["a.PNG", "b.jpeg", "c.jpg"]


def test_images_of_hugging_face_follow_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(list[Any]):
        column_names = ("image", "label")
        features: dict[str, Any] = {"label": None}  # noqa: RUF012

        def __getitem__(self, key: Any) -> Any:
            return [0] if key == "label" else {"image": Image.fromarray(DEEP)}

    monkeypatch.setattr("detector.data.classification._load", lambda *_: Rows())
    assert grey(HuggingFaceImages("x", "train").image(0)) == HIGH


def test_a_large_image_is_read_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (10, 15)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # twice as many are refused
    assert decode(tmp_path / "a.png").shape == (15, 10, 3)  # warnings are errors
    Image.new("RGB", (10, 21)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="exceeds limit"):
        decode(tmp_path / "b.png")


def test_a_tiff_whose_tags_have_other_types_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (9, 7)).save(path)
    whole = path.read_bytes()
    first = int.from_bytes(whole[4:8], "little")
    for entry in range(int.from_bytes(whole[first : first + 2], "little")):
        kind = first + 2 + 12 * entry + 2
        for other in (1, 2, 5, 7, 10, 12):
            path.write_bytes(whole[:kind] + bytes([other, 0]) + whole[kind + 2 :])
            with contextlib.suppress(UserError), warnings.catch_warnings(action="ignore"):
                assert decode(path).shape[2] == 3


@pytest.mark.parametrize("kind", ["DDS", pytest.param("AVIF", marks=WITH_AVIF)])
def test_formats_whose_readers_raise_other_errors_are_refused_alike(
    kind: str, tmp_path: Path
) -> None:
    """Content decides, so an AVIF that is called .jpg is opened as one."""
    path = tmp_path / "a.jpg"
    Image.new("L", (4, 4), 9).save(path, kind)
    assert grey(decode(path)) == [[9] * 4] * 4
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with contextlib.suppress(UserError):
            decode(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_libtiff_writes_nothing_of_its_own_on_a_broken_file(
    compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, compression=compression)
    content = bytearray(path.read_bytes())
    content[200:3000:7] = bytes(one ^ 0x5A for one in content[200:3000:7])
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: image does not decode"):
        decode(path)
    assert capfd.readouterr().err == ""


def test_a_program_under_the_name_of_an_image_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    path = tmp_path / "a.jpg"
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    path.write_bytes(head + b"showpage\n")
    with pytest.raises(UserError, match=r"a\.jpg is PostScript, a program"):
        decode(path)
