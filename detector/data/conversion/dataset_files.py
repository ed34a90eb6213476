"""A data set on its way into another format, and what that format does not hold."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.data.dataset import Annotations, Dataset, box_areas


@dataclass(frozen=True)
class DatasetFiles:
    dataset: Dataset
    images: Sequence[Annotations]  # the annotations of each image
    names: Sequence[str]  # of each image's file, without folders
    place: Path  # the folder that is written
    split: str  # how it is called there
    lost: Counter[str] = field(default_factory=Counter)  # what the format does not hold, counted

    def __iter__(self) -> Iterator[tuple[Annotations, str]]:
        """Each image, and the name of its file."""
        return zip(self.images, self.names, strict=True)

    def notes(self) -> list[str]:
        return [f"{what} ({count:,})" for what, count in self.lost.items() if count]

    def count_ids(self) -> None:
        count = len(self.dataset.classes)
        if self.dataset.category_ids != tuple(range(1, count + 1)):
            self.lost["category ids are lost: classes count from 1, in their order"] += count

    def count_areas(self, one: Annotations) -> None:
        own = ~one.ignore & (np.abs(one.areas - box_areas(one.boxes)) > 1e-3 * one.areas + 1e-6)
        self.lost[
            "objects have an area other than their box's, such as that of a mask, which is lost: "
            "their box's tells whether they are small, medium or large"
        ] += int(own.sum())
