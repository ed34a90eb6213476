"""What can be wrong with a dump: refused, left out on request, or said."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.column_checks import LARGEST
from ablate_kit.metrics.detection_files.image_names import SEVERAL
from ablate_kit.metrics.detection_files.raw_rows import Raw
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.plural import counted

Flags = NDArray[np.bool_]

# A box may leave its image by so many pixels: detectors do not always clip, and files round.
_SLACK = 2.0

# Share of the images with objects that may have no detection, of the boxes that may leave their
# image, and of the image's size by which they may, before it is said.
_BARE, _LEAVING, _FAR = 0.1, 0.2, 0.1

# Share of the boxes that must speak against a convention, and of those that must fit the other.
_AGAINST, _FITTING = 0.05, 0.98


def usable(raw: Raw, truth: GroundTruth, *, skip_bad: bool) -> tuple[Flags, list[str]]:
    """Which rows can be scored, and a note for every reason why others cannot.

    Raises:
        UserError: a row cannot be scored, unless ``skip_bad``.
    """
    keep, notes = np.ones(len(raw), dtype=bool), []
    for bad, told in _problems(raw, truth):
        rows = np.flatnonzero(bad & keep)
        if not len(rows):
            continue
        keep[rows] = False
        place, problem = raw.place(int(rows[0])), told(int(rows[0]))
        if not skip_bad:
            if len(rows) == len(raw) > 1:
                raise UserError(f"{place}: {problem} (in all {len(rows):,} rows)")
            many = f" ({len(rows):,} such rows)" if len(rows) > 1 else ""
            raise UserError(f"{place}: {problem}{many}; --skip-bad leaves them out")
        notes.append(f"{counted(len(rows), 'row')} left out, first {place}: {problem}")
    return keep, notes


def _problems(raw: Raw, truth: GroundTruth) -> Iterator[tuple[Flags, Callable[[int], str]]]:
    def image(row: int) -> str:
        name = str(raw.image_names[row])
        if raw.image[row] == SEVERAL:
            return f"{name} is the name of several images of the ground truth"
        known = truth.image_ids.tolist()
        near = did_you_mean(name, map(str, known))
        return f"image {name} is not one of the {len(known)} of the ground truth{near}"

    def label(row: int) -> str:
        name = str(raw.label_names[row])
        near = _renumbered(raw, truth) or did_you_mean(name, truth.classes)
        return f"category {name} is not one of the {len(truth.classes)} of the ground truth{near}"

    yield np.less(raw.image, 0), image
    yield np.less(raw.labels, 0), label
    yield np.logical_not(np.isfinite(raw.scores)), lambda row: f"the score is {raw.scores[row]}"
    broken = np.logical_not((np.abs(raw.boxes) < LARGEST).all(axis=1))  # NaN is not less
    yield broken, lambda row: f"the box {raw.boxes[row].tolist()} is not four numbers of pixels"


def _renumbered(raw: Raw, truth: GroundTruth) -> str:
    """Of categories that are numbers: what numbers there are, and whether they seem to count the
    classes."""
    names = set(np.asarray(raw.label_names).tolist())
    if not all(isinstance(name, int) for name in names):
        return ""
    ids, low, high = truth.category_ids, min(names), max(names)
    counts = low in (0, 1) and high < low + len(ids)
    meant = f", as if they counted the classes from {low}" if counts else ""
    return f", whose ids are {min(ids)} to {max(ids)}; those of the file are {low} to {high}{meant}"


def check_convention(raw: Raw, truth: GroundTruth) -> None:
    """Refuse boxes that are evidently not in pixels, or not of the form they are read as.

    Raises:
        UserError: what the boxes look like instead, and how to say so.
    """
    if not len(raw):
        return
    size = np.stack([truth.widths, truth.heights], axis=1)[raw.image].astype(np.float64)
    sized = (size > 0).all(axis=1)
    first, second = raw.boxes[:, :2], raw.boxes[:, 2:]
    where = raw.files[0] if len(raw.files) == 1 else f"{raw.files[0]} and others"
    if (np.abs(raw.boxes) <= 1.5).all() and (size[sized] > 16).all() and sized.any():
        raise UserError(f"{where}: these look like shares of the image; expected pixels")
    inside = (second <= size + _SLACK).all(axis=1)
    ordered = (second >= first).all(axis=1)
    leaving = (first + second > size + _SLACK).any(axis=1) & sized
    if raw.has_sizes:
        if leaving.mean() > _AGAINST and (ordered & (inside | ~sized)).mean() > _FITTING:
            every = "all" if ordered.all() else "nearly all"
            raise UserError(
                f"{where}: these look like xyxy boxes: {leaving.mean():.0%} of them would leave "
                f"their image as x, y, width, height, and {every} have x2 >= x1, y2 >= y1; give "
                "--boxes xyxy, or --boxes xywh if they are what COCO asks for"
            )
    elif (~ordered).mean() > _AGAINST:
        raise UserError(
            f"{where}: {(~ordered).mean():.0%} of the boxes end before they begin, read as x1, y1, "
            "x2, y2; these look like xywh boxes"
        )


def remarks(detections: Detections, truth: GroundTruth) -> Iterator[str]:
    """What can be scored but may not be meant."""
    from ablate_kit.metrics.renumbered_classes import renumbered  # needs SciPy; cutting has none

    if not len(detections):
        yield "no detections"
        return
    low, high = float(detections.scores.min()), float(detections.scores.max())
    if low < 0 or high > 1:
        yield (
            f"scores run from {low:.4g} to {high:.4g}, not within 0 to 1: AP only ranks them, but "
            "a fixed score threshold means little"
        )
    sought = np.unique(truth.image[~truth.ignore])
    bare = len(np.setdiff1d(sought, detections.image))
    if bare > _BARE * len(sought):
        yield (
            f"nothing is detected on {bare:,} of the {len(sought):,} images with objects, which "
            "all count as missed; are these detections of all images?"
        )
    size = np.stack([truth.widths, truth.heights], axis=1)[detections.image].astype(np.float64)
    far = (detections.boxes[:, 2:] > (1 + _FAR) * size).any(axis=1) & (size > 0).all(axis=1)
    if far.mean() > _LEAVING:
        yield (
            f"{far.mean():.0%} of the boxes leave their image by more than a tenth of its size; "
            "are they in pixels of an image of another size?"
        )
    yield from renumbered(truth, detections)
    empty = int((detections.xywh[:, 2:] <= 0).any(axis=1).sum())
    if empty:
        match = "it matches" if empty == 1 else "they match"
        yield f"{counted(empty, 'box', 'boxes')} without area; {match} nothing"
    again = _repeated(detections)
    if again:
        repeats = "1 detection repeats" if again == 1 else f"{again:,} detections repeat"
        yield f"{repeats} another one exactly; a false positive where no object is left for it"
    most = truth.max_detections
    beyond = int(np.maximum(_per_class_and_image(detections) - most, 0).sum())
    if beyond:
        full = int((_per_class_and_image(truth) > most).sum())
        yield (
            f"{counted(beyond, 'detection')} {'is' if beyond == 1 else 'are'} beyond the best "
            f"{most} of a class and image, which are all that AP and F1 count; "
            f"{_crowds(full, most)}; --max-detections sets the limit"
        )


def _crowds(full: int, most: int) -> str:
    if not full:
        return "no image has so many objects of a class"
    places = "in one image there are" if full == 1 else f"{full:,} times an image has"
    return f"{places} more than {most} objects of a class, and the others count as missed"


def _per_class_and_image(boxes: Detections | GroundTruth) -> NDArray[np.int64]:
    """How many boxes there are of every class and image that has any."""
    cell = boxes.image.astype(np.int64) * (int(boxes.labels.max(initial=0)) + 1) + boxes.labels
    return np.unique(cell, return_counts=True)[1]


def _repeated(detections: Detections) -> int:
    """How many detections are equal to an earlier one in everything."""
    rows = np.column_stack(
        [detections.image, detections.labels, detections.boxes, detections.scores]
    ).astype(np.float64)
    # One number per row brings equal rows together faster than sorting by seven columns.
    factors = np.random.Philox(key=0).random_raw(rows.shape[1]) | np.uint64(1)
    digest = ((rows + 0.0).view(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    order = np.argsort(digest, kind="stable")
    ranked = digest[order]
    alike = np.flatnonzero(ranked[1:] == ranked[:-1])  # as hardly any are, few rows are compared
    return int((rows[order[alike + 1]] == rows[order[alike]]).all(axis=1).sum())
