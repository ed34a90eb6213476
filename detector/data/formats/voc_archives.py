"""The official archives of PASCAL VOC 2007 and 2012: what is there, and getting the rest."""

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detector.data.download import Progress, check_address, fetch
from detector.data.formats.voc_devkit import split_names, year_folder
from detector.errors import UserError

SITE = "http://host.robots.ox.ac.uk/pascal/VOC"


@dataclass(frozen=True)
class VocArchive:
    """One archive, and the split that it brings."""

    path: str  # below SITE
    md5: str
    year: str
    split: str
    images: int  # listed in the split

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


ARCHIVES = (
    VocArchive("voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64",
            "2007", "trainval", 5_011),
    VocArchive("voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f",
            "2007", "test", 4_952),
    VocArchive("voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd",
            "2012", "trainval", 11_540),
)  # fmt: skip


@dataclass(frozen=True)
class Presence:
    """How much of a split is on the disk."""

    year: str
    split: str
    expected: int
    listed: int  # names in the split file
    annotations: int  # of the listed, those with a file
    images: int

    @property
    def complete(self) -> bool:
        return self.expected == self.listed == self.annotations == self.images


def presence(root: Path) -> list[Presence]:
    """What a VOCdevkit folder, or one that holds it, has of each archive's split."""
    return [_presence(root, archive) for archive in ARCHIVES]


def _presence(root: Path, archive: VocArchive) -> Presence:
    counts = (0, 0, 0)
    try:
        folder = year_folder(root, archive.year)
        names = set(split_names(folder, archive.split))
    except UserError:  # no such year, or split: that is nothing of it
        pass
    else:
        counts = (
            len(names),
            len(names & _stems(folder / "Annotations", ".xml")),
            len(names & _stems(folder / "JPEGImages", ".jpg")),
        )
    return Presence(archive.year, archive.split, archive.images, *counts)


def _stems(folder: Path, suffix: str) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name.removesuffix(suffix) for entry in entries if entry.stat().st_size}


def complete(root: Path, watch: Callable[[str], Progress], site: str) -> list[Path]:
    """Downloads and unpacks the archives whose split is not whole; gives their paths.

    They are kept in ``root``, where one that lies there already is taken as it is if its checksum
    is right. ``watch`` is asked for the progress of each by its name. The images come to
    ``root/VOCdevkit``, or to ``root`` itself if that is the VOCdevkit folder. UserError where
    they would take the place of another split of the same name.
    """
    check_address(site)
    root = Path(os.path.abspath(root))  # noqa: PTH100  ("." has no name; links stay as given)
    parts = zip(ARCHIVES, presence(root), strict=True)
    missing = [(archive, part) for archive, part in parts if not part.complete]
    for _, part in missing:
        if part.listed not in (0, part.expected):
            raise UserError(
                f"{root} has a {part.split} split of {part.year} with {part.listed:,} images, the "
                f"official one has {part.expected:,}; give another --root to leave yours as it is"
            )
    fetched = []
    for archive, _ in missing:
        path = root / archive.name
        fetch(f"{site.rstrip('/')}/{archive.path}", path, archive.md5, watch(archive.name))
        _unpack(path, _destination(root, archive.year))
        fetched.append(path)
    return fetched


def _destination(root: Path, year: str) -> Path:
    folder = root / f"VOC{year}"
    return (
        folder if folder.is_dir() or root.name == "VOCdevkit" else root / "VOCdevkit" / folder.name
    )


def _unpack(path: Path, destination: Path) -> None:
    """Unpacks beside the archive, then moves each whole file to the year's folder."""
    staging = path.with_name(f".{path.name}.unpacked")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        with tarfile.open(path) as tar:
            # No absolute names, none with "..", no links out of the folder, no devices.
            tar.extractall(staging, filter="data")
        year = staging / "VOCdevkit" / destination.name
        # Split files last: where one is, its images are.
        for source in sorted(year.rglob("*"), key=lambda found: "ImageSets" in found.parts):
            target = destination / source.relative_to(year)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{path}: cannot be unpacked to {destination}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
