"""Looking at all of a data set at once: every problem is counted, none is the end.

The data sets themselves refuse the first thing that is wrong. Here their own rules are asked one
by one, and images are decoded.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from detector.data.image_files import Exif, check_size, decode, remarks
from detector.errors import UserError

KINDS = {
    "missing image": "listed, but there is no such file",
    "undecodable image": "broken, cut off, no image, or of a depth that cannot be scaled",
    "wrong size": "the file has other sides than its annotation says",
    "missing annotation": "the image has no annotation file",
    "malformed annotation": "cannot be read, or lacks something",
    "unknown class": "a name or number that is no class of the data set",
    "degenerate box": "without area, or no box at all",
    "box outside the image": "by more than a pixel",
    "no objects": "nothing to learn from, or to be found",
    "duplicate": "the same id, name or image twice",
    "in both splits": "an image to learn from and to be tested on",
    "classes differ": "between the two splits",
}

_TOLERANCE = 1.0  # pixels beyond the image: annotations are rounded

T = TypeVar("T")
Box = tuple[float, float, float, float]  # xyxy in continuous pixels


@dataclass(frozen=True)
class Problem:
    kind: str  # of KINDS
    message: str  # where, and what


@dataclass(frozen=True)
class Object:
    """An annotated object whose class is known and whose box is four numbers."""

    where: str
    label: int
    box: Box
    ignore: bool


@dataclass
class Entry:
    """One image as annotated, and what is wrong with that; nothing else about it is sure."""

    path: Path
    width: int | None = None
    height: int | None = None
    exif: Exif = "ignore"
    objects: list[Object] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # on how the image is read


def ask(problems: list[Problem], kind: str, rule: Callable[..., T], *arguments: object) -> T | None:
    """What one of the data sets' rules gives; None where it refuses, and a problem more."""
    try:
        return rule(*arguments)
    except UserError as error:
        problems.append(Problem(kind, str(error)))
        return None


class CheckedSource(Protocol):
    """A data set on the disk, read without trust."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def problems(self) -> list[Problem]:
        """Those of no single image."""

    @property
    def notes(self) -> Sequence[str]:
        """What is no problem, but worth saying."""

    def __len__(self) -> int: ...

    def entry(self, index: int) -> Entry: ...


@dataclass(frozen=True)
class CheckReport:
    """What is in a data set, and what is wrong with it."""

    name: str
    images: int
    objects: int  # those to ignore included
    ignored: int
    without_objects: int  # images
    balance: dict[str, tuple[int, int]]  # class: (objects, images that show one)
    problems: list[Problem]
    paths: frozenset[Path]
    remarks: dict[str, list[Path]] = field(default_factory=dict)  # on how these images are read

    def counts(self) -> dict[str, int]:
        """Number of problems of each kind that there are any of."""
        found = Counter(problem.kind for problem in self.problems)
        return {kind: found[kind] for kind in KINDS if found[kind]}


def examine(source: CheckedSource, count: int | None, advance: Callable[[], None]) -> CheckReport:
    """Looks at every image of ``source``, or the first ``count``; ``advance`` is told of each."""
    problems = list(source.problems)
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    number, ignored, without, paths = 0, 0, 0, set()
    remarked: dict[str, list[Path]] = {}
    for entry in _looked_at(source, len(source) if count is None else min(count, len(source))):
        number += 1
        problems += entry.problems
        paths.add(entry.path)
        for remark in entry.remarks:
            remarked.setdefault(remark, []).append(entry.path)
        labels = [one.label for one in entry.objects]
        objects.update(labels)
        images.update(set(labels))
        ignored += sum(one.ignore for one in entry.objects)
        without += not labels
        advance()
    if objects.total() == ignored:
        problem = "none that is not to be ignored" if ignored else "none in any image"
        problems.append(Problem("no objects", f"{source.name}: {problem}"))
    balance = {name: (objects[i], images[i]) for i, name in enumerate(source.classes)}
    return CheckReport(
        name=source.name,
        images=number,
        objects=objects.total(),
        ignored=ignored,
        without_objects=without,
        balance=balance,
        problems=problems,
        paths=frozenset(paths),
        remarks=remarked,
    )


def compare(train: CheckReport, val: CheckReport) -> list[Problem]:
    """What is wrong with two data sets as the two splits of one training."""
    problems = [
        Problem("in both splits", f"{path}: in {train.name} and in {val.name}")
        for path in sorted(train.paths & val.paths)
    ]
    if list(train.balance) != list(val.balance):
        first, second = (", ".join(report.balance) for report in (train, val))
        problems.append(
            Problem("classes differ", f"{train.name} has {first}; {val.name} has {second}")
        )
    return problems


def _looked_at(source: CheckedSource, count: int) -> Iterator[Entry]:
    def look(index: int) -> Entry:
        entry = source.entry(index)
        _look_at_image(entry)
        _look_at_boxes(entry)
        return entry

    # Threads: almost all of the time is spent in decoding, which lets others run.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(look, range(count))


def _look_at_image(entry: Entry) -> None:
    kind = "undecodable image" if entry.path.is_file() else "missing image"
    image = ask(entry.problems, kind, decode, entry.path, entry.exif)
    if image is None:
        return
    entry.remarks += remarks(entry.path, entry.exif)
    if entry.width is not None:
        sides = entry.width, entry.height, entry.exif
        ask(entry.problems, "wrong size", check_size, entry.path, image, *sides)


def _look_at_boxes(entry: Entry) -> None:
    for one in entry.objects:
        left, top, right, bottom = one.box
        shown = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
        if right <= left or bottom <= top:
            entry.problems.append(
                Problem("degenerate box", f"{one.where}: the box {shown} has no area")
            )
        elif entry.width is not None and entry.height is not None:
            beyond = max(-left, -top, right - entry.width, bottom - entry.height)
            if beyond > _TOLERANCE:
                size = f"{entry.width}x{entry.height}"
                entry.problems.append(
                    Problem(
                        "box outside the image",
                        f"{one.where}: the box {shown} leaves the image of {size} by {beyond:g}",
                    )
                )
