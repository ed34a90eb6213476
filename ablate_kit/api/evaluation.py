"""One model, or one file of detections, evaluated from Python."""

import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from ablate_kit.api.given import check_is
from ablate_kit.api.images import Images
from ablate_kit.api.keywords import by_keyword, in_python
from ablate_kit.api.model import Model
from ablate_kit.api.sweeping import sweep
from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detection_files.read_detections import uses_class_names
from ablate_kit.metrics.result import Result
from ablate_kit.models.labels.annotations import annotated_images
from detector.data.dataset import is_labelled
from detector.data.formats.voc_classes import read_classes


@by_keyword()
def evaluate(
    model: Model, data: Images, *, batch_size: int = 8, score_threshold: float = 0.5
) -> Result:
    """Every metric of a model, and its detections: ``.evaluation`` has the numbers (``.overall``,
    ``.per_class``, ``.thresholds``, ``.counts``), ``.detections`` the boxes.

    What may not be meant, such as classes that the model does not have, is a ``UserWarning``.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> result = ak.evaluate(ak.load(SHAPES_TINY), ak.shapes(limit=4))
        >>> 0 <= result.evaluation.overall["AP"] <= 1
        True
    """
    check_is(data, Images, "ak.coco, ak.voc, ak.yolo or ak.shapes")
    if not is_labelled(data.dataset):
        raise UserError(
            "images without labels tell nothing of one model alone; ak.sweep holds ablations of it "
            "against it"
        )
    found = sweep(
        model, data, [], batch_size=batch_size, score_threshold=score_threshold, resamples=0
    )
    _warn(found.notes)
    return found.results[0]


@by_keyword()
def score(
    path: str | PathLike[str],
    data: Images,
    *,
    threshold: float | None = None,
    score_threshold: float = 0.5,
    boxes: str | None = None,
    class_names: str | PathLike[str] | None = None,
    skip_bad: bool = False,
) -> Result:
    """Every metric of a file (or folder) of detections, without a model; gives what ``evaluate``
    gives.

    What may not be meant, such as boxes without area, is a ``UserWarning``.

    Args:
        path: COCO results, a VOC devkit folder, YOLO text ...; docs/score.md.
        threshold: calibrated score threshold; by default the one that suits these detections best.
        score_threshold: of the numbers at a fixed score.
        boxes: ``xywh`` or ``xyxy``, of a COCO results file; by default the former, and what looks
            like something else is refused.
        class_names: file of names for the classes of files that number them, one per line.
        skip_bad: leave out rows that cannot be scored, with a warning.

    Raises:
        UserError: not a file of detections, or of other images.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.score("results.json", ak.coco("instances.json", "val2017"))  # doctest: +SKIP
    """
    from ablate_kit.checkpoints.pickle.plain_data import read_plain

    check_is(data, Images, "ak.coco, ak.voc, ak.yolo or ak.shapes")
    against = annotated_images(data.dataset)
    if class_names is not None and not uses_class_names(Path(path)):
        raise UserError(
            f"class_names names the class numbers of YOLO's text files and of pickles; {path} is "
            "neither"
        )
    names = None if class_names is None else read_classes(Path(class_names))
    found, notes = read_dump(
        Path(path), against, boxes=boxes, class_names=names, skip_bad=skip_bad, unpickle=read_plain
    )
    _warn(notes)
    return Result.of(
        Path(path).stem,
        "detections",
        against.truth,
        found,
        threshold=threshold,
        fixed_threshold=score_threshold,
    )


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(in_python(note), stacklevel=4)
