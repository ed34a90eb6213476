"""Rows of a dump before they are believed."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.detection_files.image_names import UNKNOWN, ImageNames
from ablate_kit.metrics.detections import GroundTruth

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Raw:
    """What a file, or a folder of files, says row by row."""

    # image, labels: (n,) index into the ground truth's images and classes; -1 for unknown ones, -2
    # for a name that several images share.
    image: Indices
    labels: Indices
    boxes: Numbers  # (n, 4) as written: x, y, width, height where ``has_sizes``, else corners
    scores: Numbers  # (n,)
    has_sizes: bool  # which of the two ``boxes`` are
    # image_names, label_names: (n,) what the rows call their image and class, for messages.
    image_names: NDArray[Any] | Sequence[str]
    label_names: NDArray[Any] | Sequence[str]
    files: tuple[str, ...]  # the files that the rows are from, in order
    starts: tuple[int, ...]  # the first row of each
    first_line: int  # 0 for elements of a JSON list, 1 for lines of text
    notes: tuple[str, ...] = ()  # what the reader has to say of it
    # (n,) the line of its file that each row is on; None where they follow one another.
    lines: Indices | None = None

    def __len__(self) -> int:
        return len(self.image)

    def place(self, row: int) -> str:
        """Where a row is: ``file[17]`` in a JSON list, ``file:17`` in lines of text."""
        file = bisect_right(self.starts, row) - 1
        number = row - self.starts[file] + self.first_line
        if self.lines is not None:
            number = int(self.lines[row])
        name = self.files[file]
        return f"{name}:{number}" if self.first_line else f"{name}[{number}]"

    def only(self, rows: Indices) -> "Raw":
        """Some of the rows. They have lost their places: to be used when nothing is refused."""
        return replace(
            self,
            image=self.image[rows],
            labels=self.labels[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            lines=None if self.lines is None else self.lines[rows],
        )


def image_positions(names: Sequence[str], known: ImageNames, truth: GroundTruth) -> Indices:
    """Index of each image that a dump names: by file name, else by the number that it is."""
    index_of = {int(number): index for index, number in enumerate(truth.image_ids)}
    found: dict[str, int] = {}
    for name in set(names):
        found[name] = known.find(name)
        if found[name] == UNKNOWN and name.isdecimal():
            found[name] = index_of.get(int(name), UNKNOWN)
    return np.array([found[name] for name in names], dtype=np.int64)


def truth_labels(names: Sequence[str], truth: GroundTruth) -> Indices:
    """Index of each of a model's classes in the ground truth, by name.

    Raises:
        UserError: a name that the ground truth does not have.
    """
    label_of = {name: index for index, name in enumerate(truth.classes)}
    for name in names:
        if name not in label_of:
            near = did_you_mean(name, truth.classes)
            raise UserError(f'--class-names: "{name}" is no class of the ground truth{near}')
    return np.array([label_of[name] for name in names], dtype=np.int64)
