"""What a YOLO ``data.yaml`` says: class names, and which images each split has.

The file may come with the data from anywhere, so nothing that it or a list of images names is
looked for outside the data set's folder: that of the file itself, or the one that the user gives.
Absolute paths, which are usual in such files, are taken where they lead into that folder and
refused elsewhere; scripts for downloads, usual as well, are never run.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from detector.data.formats.fields import shown, whole
from detector.data.formats.image_folder import images_below
from detector.data.image_files import SUFFIXES
from detector.disk.bounded import read_bounded
from detector.errors import UserError, did_you_mean, no_folder
from detector.yaml_values import LARGEST, YamlError, read_yaml

SPLITS = ("train", "val", "test")

_IMAGES, _LABELS = "images", "labels"


@dataclass(frozen=True)
class YoloImage:
    """An image of a split."""

    root: Path
    name: str  # path in the data set's folder, with ``/``
    labels: Path  # where its objects are, if it has any

    @property
    def path(self) -> Path:
        return self.root / self.name


@dataclass(frozen=True)
class YoloFile:
    """A ``data.yaml``, read."""

    path: Path  # of the file
    root: Path  # the data set's folder
    classes: tuple[str, ...]  # names, by number
    # Of each split the folders or lists of its images, as the file names them.
    splits: Mapping[str, tuple[str, ...]]
    keypoints: int = 0  # how many numbers of keypoints follow each box
    notes: tuple[str, ...] = ()  # what is not as the file says

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> "YoloFile":
        """The file, and the folder that it is about.

        Args:
            root: the data set's folder, whatever the file says of it.

        Raises:
            UserError: not such a file, or one that leads out of its own folder.
        """
        values = _values(path)
        splits = {split: _places(path, values, split) for split in SPLITS}
        splits = {split: places for split, places in splits.items() if places}
        if not splits:
            raise UserError(f"{path}: no split; expected one of {', '.join(SPLITS)}")
        path = _meant(path, values.get("path"), [*splits.values()])
        found, notes = _root(path, root, values.get("path"), [*splits.values()])
        return cls(path, found, _classes(path, values), splits, _keypoints(path, values), notes)

    def images(self, split: str) -> tuple[YoloImage, ...]:
        """The images of a split: those of a folder by name, those of a list in its order.

        Raises:
            UserError: there is no such split, folder, list or image, or an image is there twice.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            near = did_you_mean(split, [*self.splits])
            raise UserError(f'{self.path}: no split "{split}" in it{near}; it has {known}')
        found: dict[str, str] = {}
        for value in self.splits[split]:
            where = f"{self.path}: {split}"
            place = _inside(value, self.root, where, beside=self.path.parent)
            names = (
                images_below(place, self.root) if place.is_dir() else _list(place, self.root, where)
            )
            for name in names:
                if name in found:
                    raise UserError(f"{where}: image {name} of {value} is in {found[name]} as well")
                found[name] = value
            if not found:
                raise UserError(f"{where}: no images in {place}")
        return tuple(YoloImage(self.root, name, _labels(self.root, name)) for name in found)


def _values(path: Path) -> dict[str, Any]:
    expected = "expected a YAML file with names and the splits train, val or test"
    try:
        found = read_yaml(read_bounded(path, LARGEST).decode("utf-8-sig"), number_keys=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8; {expected}") from None
    except YamlError as error:
        where = f"{path}:{error.line}:{error.column}"
        raise UserError(f"{where}: not YAML: {error.problem}") from None
    if not isinstance(found.value, dict):
        raise UserError(f"{path}: no keys in it; {expected}")
    values: dict[str, Any] = found.value
    if "validation" in values and values.get("val") is None:  # an old name for it
        values["val"] = values["validation"]
    return values


def _classes(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    given = values.get("names")
    if isinstance(given, dict):
        numbers = {whole(key): name for key, name in given.items()}
        if set(numbers) != set(range(len(given))):
            raise UserError(f"{path}: names are of {shown([*given])}; expected 0, 1, 2 ...")
        given = [numbers[number] for number in range(len(given))]
    if not isinstance(given, list) or not given:
        raise UserError(f"{path}: names are {shown(given)}; expected a list, or names by number")
    names: list[str] = []
    for number, name in enumerate(given):
        text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{path}: class {number} is named {shown(name)}; expected text")
        if text in names:
            both = f"{names.index(text)} and {number}"
            raise UserError(f"{path}: classes {both} have the name {shown(text)}")
        names.append(text)
    count = values.get("nc")
    if count is not None and count != len(names):
        raise UserError(f"{path}: nc is {shown(count)}, and there are {len(names)} names")
    return tuple(names)


def _places(path: Path, values: Mapping[str, Any], split: str) -> tuple[str, ...]:
    given = values.get(split)
    places = given if isinstance(given, list) else [] if given is None else [given]
    for one in places:
        if not isinstance(one, str) or not one.strip() or "\0" in one:
            raise UserError(
                f"{path}: {split} is {shown(one)}; expected a folder or a list of files"
            )
    return tuple(places)


def _keypoints(path: Path, values: Mapping[str, Any]) -> int:
    shape = values.get("kpt_shape")
    if shape is None:
        return 0
    sides = [whole(one) for one in shape] if isinstance(shape, list) else []
    if len(sides) != 2 or not all(side and 0 < side < 10_000 for side in sides):
        raise UserError(f"{path}: kpt_shape is {shown(shape)}; expected [points, numbers of each]")
    return (sides[0] or 0) * (sides[1] or 0)


def _meant(path: Path, named: object, splits: Sequence[Sequence[str]]) -> Path:
    """Of a link the file that it points to, unless what it names lies beside the link."""
    folders = {path.parent, path.parent / (named if isinstance(named, str) else "")}
    here = any((folder / one).exists() for folder in folders for one in chain(*splits))
    return path.resolve() if path.is_symlink() and not here else path


def _root(
    path: Path, given: Path | None, named: object, splits: Sequence[Sequence[str]]
) -> tuple[Path, tuple[str, ...]]:
    """The data set's folder, and a note where it is not the one that the file names."""
    if given is not None:
        if not given.is_dir():
            raise no_folder(given, f"expected the data set of {path}")
        return given, ()
    here = path.parent
    if named is None:
        return here, ()
    if not isinstance(named, str) or not named.strip() or "\0" in named:
        raise UserError(f"{path}: path is {shown(named)}; expected a folder")
    name = _within(named, here)
    if name is not None and (here / name).is_dir():
        return here / name, ()
    # A file that was written for another place, beside what it is about.
    for places in splits:
        beside = [_within(one, here, up=True) for one in places]
        if all(one is not None and (here / one).exists() for one in beside):
            return here, (f"{path}: path is {shown(named)}; the images are taken from {here}",)
    if name is None:
        raise UserError(f"{path}: path is {shown(named)}, {_outside(here)}")
    raise UserError(f"{path}: path is {shown(named)}; there is no folder {here / name}")


def _inside(value: str, root: Path, where: str, beside: Path) -> Path:
    """A folder or list that the file names, in ``root``; a list may lie beside the file as well."""
    name = _within(value, root, up=True)
    if name is not None and (root / name).exists():
        return root / name
    listed = _within(value, beside)
    if listed is not None and (beside / listed).is_file():
        return beside / listed
    if name is None or _within(value, root) is None:
        raise UserError(f"{where} is {shown(value)}, {_outside(root)}")
    raise UserError(f"{where} is {shown(value)}; there is no {root / name}")


def _outside(root: Path) -> str:
    return (
        f"which is not in {root}; if the data set is in another folder, give that one as root "
        "(--yolo-root, data.root of a recipe)"
    )


def _within(value: str, root: Path, *, up: bool = False) -> str | None:
    """A path as a name in ``root``, or None where it leads out of it.

    ``up``: leading ``..`` are passed over. Exports name "../train/images" what lies beside the
    file.
    """
    parts = PureWindowsPath(value)  # knows both separators, and drives
    if parts.drive:
        return None
    if not parts.anchor:
        name = os.path.normpath(parts.as_posix())
        while up and (name == ".." or name.startswith("../")):
            name = os.path.normpath(name[3:] or ".")
        return None if name == ".." or name.startswith("../") else name
    named = os.path.normpath(parts.as_posix())
    for base in (os.path.normpath(root.absolute()), os.path.realpath(root)):
        if named == base or named.startswith(base.rstrip("/") + "/"):
            return os.path.relpath(named, base)
    return None


def _list(place: Path, root: Path, where: str) -> Iterable[str]:
    """The images of a list: names in its own folder or in the data set's."""
    try:
        lines = read_bounded(place).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{where}: {place} is no list of images, nor a folder") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read: {error.strerror}") from None
    own = _within(str(place.parent.absolute()), root)
    for number, line in enumerate(lines, start=1):
        value = line.strip()
        if not value:
            continue
        if not value.lower().endswith(SUFFIXES) or "\0" in value:
            raise UserError(f"{place}:{number}: {shown(value)} is no name of an image")
        name = _within(value, root)
        beside = (
            _within(f"{own}/{value}", root) if own and not PureWindowsPath(value).anchor else None
        )
        if beside is not None and (name is None or (root / beside).is_file()):
            name = beside
        if name is None:
            raise UserError(f"{place}:{number}: {shown(value)}, {_outside(root)}")
        yield name


def _labels(root: Path, name: str) -> Path:
    """The last folder "images" of the path becomes "labels"; without one, or where there is no such
    file, the labels are beside the image."""
    path = PurePosixPath(name).with_suffix(".txt")
    parts = list(path.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == _IMAGES]
    if not places:
        return root / path
    parts[places[-1]] = _LABELS
    apart = root.joinpath(*parts)
    return root / path if not apart.is_file() and (root / path).is_file() else apart
