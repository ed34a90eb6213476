"""Which class of a data set each class of a model is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ablate_kit import text as safe
from ablate_kit.checkpoints.told import tell
from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files.text_files import open_text

if TYPE_CHECKING:
    from detector.data.dataset import Dataset

# Classes that PASCAL VOC and COCO both have, under names of their own.
_VOC_AND_COCO = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
_OTHER_NAME = _VOC_AND_COCO | {coco: voc for voc, coco in _VOC_AND_COCO.items()}
_BY_HAND = "--class-names FILE (class_names in a recipe's model) says what they are"
_LISTED = 10
_LARGEST_ID = 100_000
NO_CLASS = "N/A"
"""How an output is named that stands for no class, such as 11 of COCO's 91."""


def match_classes(model: Sequence[str], dataset: Sequence[str]) -> npt.NDArray[np.int64]:
    """For each class of the model its index in the data set, by name; -1 where it has none.

    VOC's and COCO's names of one class count as the same. Raises ``UserError`` when no name agrees.
    """
    labels = _indices(model, dataset)
    if (labels < 0).all():
        raise UserError(
            f"the model's classes ({_few(model)}) and the data set's ({_few(dataset)}) have no "
            f"name in common; {_BY_HAND}"
        )
    return labels


def unlearned_classes(training: Sequence[str], validation: Sequence[str]) -> list[str]:
    """A note on the classes of the validation images that a training will not meet, or none.

    Raises ``UserError`` where it meets none of them.
    """
    matched = _indices(validation, training)
    missing = [name for name, index in zip(validation, matched, strict=True) if index < 0]
    if not missing:
        return []
    if len(missing) == len(validation):
        raise UserError(
            f"the classes of the validation images ({_few(validation)}) and those of the training "
            f"images ({_few(training)}) have no name in common"
        )
    verb = "is" if len(missing) == 1 else "are"
    return [
        f"{len(missing)} of the validation images' {len(validation)} classes {verb} not among the "
        f"training images', so that all their objects count as missed: {_few(missing)}"
    ]


def other_classes(first: Sequence[str], training: Sequence[str]) -> list[str]:
    """A note where a training begins with the weights of a model of other classes, or none."""
    if _indices(first, training).tolist() == list(range(len(first))):
        return []
    others = "in another order" if {*first} == {*training} else "of other names"
    return [
        f"the first weights are of classes {others} ({_few(first)}; the training images have "
        f"{_few(training)}): what the class heads have learned does not fit and is trained anew"
    ]


def _indices(model: Sequence[str], dataset: Sequence[str]) -> npt.NDArray[np.int64]:
    index = {name: i for i, name in enumerate(dataset)}
    # What is "sofa" to a model that has "couch", too, is something else.
    other = {name: one for name, one in _OTHER_NAME.items() if one not in model}
    return np.array(
        [index.get(name, index.get(other.get(name, name), -1)) for name in model], dtype=np.int64
    )


def unmatched_classes(model: Sequence[str], dataset: "Dataset") -> list[str]:
    """A note on the classes of the data set that have objects and the model does not have, or none.

    Classes without objects cost nothing, such as the first category of many exports, which stands
    for the whole project.
    """
    matched = match_classes(model, dataset.classes)
    unknown = {*range(len(dataset.classes))} - {*matched.tolist()}
    if not unknown:
        return []
    seen = (dataset.annotations(index) for index in range(len(dataset)))
    there = {label for one in seen for label in one.labels[~one.ignore].tolist()}
    missing = [dataset.classes[i] for i in sorted(unknown & there)]
    if not missing:
        return []
    free = [name for name, index in zip(model, matched, strict=True) if index < 0]
    listed = [f'"{safe.name(name)}"{_nearest(name, free)}' for name in missing[:_LISTED]]
    if len(missing) > _LISTED:
        listed.append(f"... {len(missing)} in all")
    verb = "is" if len(missing) == 1 else "are"
    return [
        f"{len(missing)} of the data set's {len(dataset.classes)} classes {verb} not among the "
        f"model's, so that all their objects count as missed: {', '.join(listed)}; {_BY_HAND}"
    ]


def _nearest(name: str, candidates: Sequence[str]) -> str:
    """The candidate that is most alike, however it is capitalized and joined."""
    from difflib import get_close_matches  # seldom needed

    plain = {_plain(one): one for one in reversed(candidates)}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return f' (did you mean the model\'s "{plain[near[0]]}"?)' if near else ""


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


@dataclass(frozen=True)
class ClassNames:
    """What ``--class-names`` says: a name for each output, or for some by their number; ``rising``
    where these are listed in the order of their numbers."""

    names: tuple[str, ...]
    by_id: bool
    rising: bool = False

    def of(self, classes: Sequence[str], what: str) -> tuple[str, ...]:
        """In place of the ``classes`` of ``what``; raises ``UserError`` where the numbers differ.

        Of names by number, the rest of the outputs mean nothing; where the numbers are beyond the
        outputs, and there are as many names, outputs count the names. Of others, a first output
        that means nothing, a background, needs no name.
        """
        missing = len(classes) - len(self.names)
        if missing == 1 and not self.by_id and classes[0] == NO_CLASS:
            return (NO_CLASS, *self.names)
        counted = tuple(one for one in self.names if one != NO_CLASS)
        if missing < 0 and self.by_id and self.rising and len(counted) == len(classes):
            tell(
                f"the outputs of {what} are taken for the {len(counted)} categories in their order "
                f"({_few(counted)}); if they are in another, name them in a text file"
            )
            return counted
        if missing < 0 or (missing and not self.by_id):
            raise UserError(
                f"{len(self.names)} class names for {what}, which has {len(classes)} classes "
                f"({_few(classes)})"
            )
        return self.names + (NO_CLASS,) * missing


def read_class_names(path: Path) -> ClassNames:
    """The names in a text file, one to a line, in the order of a model's outputs; or those of COCO
    annotations, whose category ids are the outputs' numbers.

    Raises:
        UserError: no such file, or not one of names that differ.
    """
    with open_text(path) as file:  # once, for it may be a pipe
        text = file.read()
    by_id, rising = text.lstrip().startswith("{"), False
    if by_id:
        names, rising = _of_categories(text, path)
    else:
        # Only line feeds end a line: U+2028 and the like may stand in names.
        names = tuple(line.strip() for line in text.split("\n") if line.strip())
    if not names:
        raise UserError(f"{path}: no names; expected one to a line")
    twice = next((x for i, x in enumerate(names) if x in names[:i] and x != NO_CLASS), None)
    if twice is not None:
        raise UserError(f'{path}: "{twice}" is in it twice')
    return ClassNames(names, by_id, rising)


def _of_categories(text: str, path: Path) -> tuple[tuple[str, ...], bool]:
    """Their names by id, and whether ids rise."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    found = document.get("categories") if isinstance(document, dict) else None
    names: dict[int, str] = {}
    for category in found if isinstance(found, list) else ():
        number, name = (
            category.get(key) if isinstance(category, dict) else None for key in ("id", "name")
        )
        if type(number) is not int or not 0 <= number <= _LARGEST_ID or not isinstance(name, str):
            raise UserError(f"{path}: {category!r:.60} is no category with an id and a name")
        names[number] = name.strip()
    if not names:
        raise UserError(f'{path}: no list "categories" of ids and names in it')
    by_number = tuple(names.get(number, NO_CLASS) for number in range(max(names) + 1))
    return by_number, list(names) == sorted(names)


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(safe.name, names[:3])) + (
        f", ... {len(names)} in all" if len(names) > 3 else ""
    )
