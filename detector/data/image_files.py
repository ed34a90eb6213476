"""Image files as (height, width, 3) RGB of 8 bits: one rule for every reader.

* **Depth.** 16 bits are scaled by the range of the type: the high byte is taken, as Pillow does for
  colors. Floats from 0 to 1 are scaled by 255. Integers of 32 bits and other floats, whose range no
  file tells, are refused, and so are 16 bits of which a sixteenth or less is used (12 bits in 16),
  which would come out nearly black.
* **Orientation.** What EXIF says of it is not applied, so boxes refer to the pixels as they are
  stored, unless the reader asks for ``exif="apply"``. Pillow applies it to TIFF; that is undone.
* **Transparency** is dropped: the colors below it stay.
"""

import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path, PureWindowsPath
from threading import Lock
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from detector.data.quiet_tiff import quiet_tiff
from detector.disk.bounded import DOCUMENT, allowed, read_bounded
from detector.errors import UserError, did_you_mean

Pixels = npt.NDArray[np.uint8]
Exif = Literal["ignore", "apply"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

T = TypeVar("T")

_SUFFIX = {".jpeg": ".jpg", ".mpo": ".jpg", ".tiff": ".tif"}

_LOCK = Lock()

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = _UPRIGHT | {6: _UPRIGHT[8], 8: _UPRIGHT[6]}

_FEW = 1 << 12  # values of 16 bits: less than this comes out as 15 of 255 at most


def check_exif(value: str) -> None:
    """Refuses what is no way to treat EXIF orientation."""
    if value not in get_args(Exif):
        near = did_you_mean(value, get_args(Exif))
        raise UserError(f'exif is "{value}"; expected ignore or apply{near}')


def find_image(folder: Path, name: str) -> Path:
    """The image of this name, whatever its suffix; with .jpg where there is none."""
    for suffix in SUFFIXES:
        for written in (suffix, suffix.upper()):
            path = folder / f"{name}{written}"
            if path.is_file():
                return path
    return folder / f"{name}.jpg"


def read_image(path: Path, width: int, height: int, exif: Exif = "ignore") -> Pixels:
    """The pixels of an image file; UserError where its size is not the one that is annotated."""
    pixels = decode(path, exif)
    check_size(path, pixels, width, height, exif)
    return pixels


def stored_image(path: Path, exif: Exif = "ignore") -> bytes:
    """The bytes of an image file and what else its pixels depend on; UserError where it is missing
    or cannot be read."""
    try:
        return read_bounded(path) + (b"exif" if exif == "apply" else b"")
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise UserError(f"{path}: image cannot be read: {error.strerror or error}") from None


def check_size(path: Path, image: Pixels, width: int, height: int, exif: Exif) -> None:
    """Refuses an image of another size than its annotation gives."""
    rows, columns = image.shape[:2]
    _check_sides(path, (columns, rows), (width, height), exif)


def check_stored_size(path: Path, width: int, height: int, exif: Exif) -> None:
    """As ``check_size``, of a file; few formats are decoded for it."""
    _check_sides(path, image_size(path, exif), (width, height), exif)


def _check_sides(path: Path, found: tuple[int, int], told: tuple[int, int], exif: Exif) -> None:
    if found == told:
        return
    orientation = _opened(path, _orientation)
    note = f": {_turned(orientation, exif)}" if orientation > 1 else ""
    (width, height), (wide, high) = found, told
    raise UserError(f"{path}: image is {width}x{height}, its annotation says {wide}x{high}{note}")


def decode(path: Path, exif: Exif = "ignore") -> Pixels:
    """The pixels of an image file of whatever size."""
    return _opened(path, lambda image: np.array(_rgb(image, path, exif)))


def image_size(path: Path, exif: Exif) -> tuple[int, int]:
    """The (width, height) of an image's pixels, of which few formats have any decoded for it."""
    return _opened(path, lambda image: _size(image, path, exif))


def stored_size(data: bytes, name: str) -> tuple[int, int, int, str]:
    """Of an image file's bytes: width and height as EXIF orients them, the orientation, and the
    suffix of such files."""
    path = Path(name)

    def look(image: Image.Image) -> tuple[int, int, int, str]:
        suffix = f".{(image.format or '').lower()}"
        return (*_size(image, path, "apply"), _orientation(image), _SUFFIX.get(suffix, suffix))

    return _opened(path, look, data)


def remarks(path: Path, exif: Exif = "ignore") -> list[str]:
    """What is done to an image on the way to its pixels that its owner may not expect."""
    return _opened(path, lambda image: list(_remarks(image, exif)))


def to_rgb(image: Image.Image, name: object) -> Image.Image:
    """RGB of 8 bits, from any mode; UserError where its range cannot be told."""
    deep = _has_16_bits(image)  # before it is loaded: then the file's own form is forgotten
    if image.format == "TIFF":
        quiet_tiff()
    image.load()
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # NaN is refused, too
            raise UserError(
                f"{name}: image of floats from {values.min():g} to {values.max():g}; expected 0 to "
                "1, or an image of 8 or 16 bits"
            )
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
    if deep and image.mode.startswith("I"):
        values = np.asarray(image)
        _check_range_used(name, int(values.max()))
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I"):
        raise UserError(
            f"{name}: image of 32-bit integers, whose range is not known; expected 8 or 16 bits"
        )
    if "transparency" in image.info:  # a palette with alpha: Pillow warns on the direct way
        image = image.convert("RGBA")
    image = image.convert("RGB")
    if deep:
        _check_range_used(name, int(np.asarray(image).max()) << 8)
    return image


def _check_range_used(name: object, largest: int) -> None:
    if 0 < largest < _FEW:
        raise UserError(
            f"{name}: image of 16 bits that uses no more than 12 of them: in 8 bits it would be "
            "nearly black; stretch it to all 16 bits, or convert it to 8"
        )


def _has_16_bits(image: Image.Image) -> bool:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return True
    tiles = getattr(image, "tile", ())
    return any(";16" in str(tile[3]) and ";16S" not in str(tile[3]) for tile in tiles)


def _rgb(image: Image.Image, path: Path, exif: Exif) -> Image.Image:
    applied = 1
    if image.format == "TIFF":  # Pillow applies it as it loads the image, and then forgets it
        applied = _orientation(image)
    pixels = to_rgb(image, path)
    if exif == "apply":
        left = _orientation(image)
        return pixels if left == 1 else pixels.transpose(_UPRIGHT[left])
    if applied > 1 and _orientation(image) == 1:
        return pixels.transpose(_BACK[applied])
    return pixels


def _size(image: Image.Image, path: Path, exif: Exif) -> tuple[int, int]:
    if image.format == "TIFF":  # what of it Pillow has applied by now is not told
        return _rgb(image, path, exif).size
    turned = exif == "apply" and _orientation(image) >= 5
    return (image.height, image.width) if turned else (image.width, image.height)


def _remarks(image: Image.Image, exif: Exif) -> list[str]:
    deep = _has_16_bits(image)  # first: to look for EXIF may load the image
    found = []
    orientation = _orientation(image)
    if orientation > 1:
        found.append(_turned(orientation, exif))
    if image.mode == "F":
        found.append("floats from 0 to 1 are scaled to 8 bits")
    elif deep:
        found.append("16 bits are scaled to 8: the high byte is taken")
    return found


def _turned(orientation: int, exif: Exif) -> str:
    """What is done to it, and what would do otherwise."""
    done, other, does = "not applied", "apply", "applies it"
    if exif == "apply":
        done, other, does = "applied", "ignore", "leaves it"
    option = f"--exif {other}, in a recipe exif: {other}"
    return f"EXIF orientation {orientation} is {done} ({option}, {does})"


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where EXIF says nothing, or nonsense."""
    try:
        with _without_warnings():
            found = image.getexif().get(_ORIENTATION, 1)
    # What Pillow meets in damaged EXIF data is no reason to refuse an image that decodes.
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


@contextmanager
def _without_warnings() -> Iterator[None]:
    """For what opens an image: Pillow warns of damaged EXIF data, and of half the pixels that it
    refuses, which says nothing that the limit does not.

    Filters are the whole process's, so threads take turns: around short work only.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


_BROKEN = (
    OSError, RuntimeError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError,
    struct.error,
)  # fmt: skip


def missing(path: Path, others: str = "") -> UserError:
    """With the folder beside it that holds an image of this name, as split folders do, or that of
    a name whose folders are already in the path, or are separated as on Windows."""
    last = PureWindowsPath(path.name).name
    near = [*sorted(path.parent.glob(f"*/{escape(last)}")), path.parent / last]
    near.append(path.parent.parent / last)
    there = next((f"; there is one in {one.parent}" for one in near if one.is_file()), "")
    return UserError(f"{path}: image file is missing{others}{there}")


def _opened(path: Path, look: Callable[[Image.Image], T], data: bytes | None = None) -> T:
    """``data``: of a file that is not there by itself."""
    most = allowed(DOCUMENT)
    if most > DOCUMENT:
        Image.MAX_IMAGE_PIXELS = most // 3
    try:
        if data is None and path.exists() and not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is a device or a pipe; expected an image file")
        with _without_warnings():
            opened = Image.open(path if data is None else io.BytesIO(data))
        with opened as image:
            if image.format == "EPS":  # which Pillow has Ghostscript run
                raise UserError(f"{path} is PostScript, a program; expected an image file")
            return look(image)
    except FileNotFoundError:
        raise missing(path) from None
    # Pillow's plug-ins report a broken file by any of these.
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path}: image does not decode: {error} "
            f'"ablate --read-limit {4 * most // 10**9}GB ..." reads larger ones'
        ) from None
    except _BROKEN as error:
        raise UserError(f"{path}: image does not decode: {error}") from error
