"""Every metric of one set of detections, as one value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.calibration import Calibration, cross_fitted
from ablate_kit.metrics.detections import MAX_DETECTIONS, Detections, GroundTruth
from ablate_kit.metrics.f1 import f1_at, f1_matched_pairs
from ablate_kit.metrics.fidelity import fidelity
from ablate_kit.metrics.giou import matched_giou, published_giou
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.lrp import optimal_lrp
from ablate_kit.metrics.matching import Matches, greedy_matches, hungarian_pairs, published_pairs
from ablate_kit.metrics.uncertainty.dependent_images import families, freedom
from ablate_kit.text import finite

VERSION = 2  # of the metrics: raised when a number changes for the same detections

Number = float | None


@dataclass(frozen=True)
class Thresholds:
    """The score thresholds of an evaluation.

    Attributes:
        fixed: of the ``*_fixed`` numbers.
        calibrated: the baseline's, with the best F1 on all images; for what is shown at one score.
        calibrated_here: whether ``calibrated`` was chosen on these very detections.
        folds: of the ``*_calibrated`` numbers and of the GIoU numbers that see misses, by fold of
            images, each chosen on the other folds; empty: ``calibrated``.
    """

    fixed: float
    calibrated: float
    calibrated_here: bool
    folds: tuple[float, ...] = ()

    @property
    def calibration(self) -> Calibration:
        """To give to the evaluation of a variant."""
        return Calibration(self.calibrated, self.folds)


@dataclass(frozen=True)
class Evaluation:
    """What the metrics say about one set of detections. None: not defined on this data.

    ======================  =========  =============================================================
    key                     per class  meaning
    ======================  =========  =============================================================
    AP AP50                 yes        COCO average precision, at IoU 0.50:0.95 and 0.50
    AP75 APs APm APl        no         at IoU 0.75; for small, medium, large ground truths
    AR1 AR10 AR100          no         COCO average recall with that many detections per class
    ARs ARm ARl             no         AR100 for small, medium, large ground truths
                                       (100: the ground truth's limit of detections)
    f1_fixed                yes        F1 at IoU 0.5 and the fixed score threshold; overall: micro
    precision_fixed         yes        precision there
    recall_fixed            yes        recall there
    macro_f1_fixed          no         mean of the classes' f1_fixed
    f1_calibrated           yes        as above, at thresholds calibrated out of sample
    precision_calibrated    yes        precision there
    recall_calibrated       yes        recall there
    macro_f1_calibrated     no         mean of the classes' f1_calibrated
    f1_matched_pairs        yes        Deep Dissect's weighted F1 over Hungarian pairs of all
                                       scores; blind to misses and false positives
    giou_published          yes        Deep Dissect's mean GIoU over those pairs; per class only the
                                       pairs whose classes agree
    giou_matched            yes        mean GIoU over Hungarian pairs at those thresholds
    match_rate              yes        share of ground truths that have such a pair
    giou_penalized          yes        mean GIoU over ground truths, -1 for one without a pair
    olrp                    yes        optimal LRP at IoU 0.5 (Oksuz et al. 2018), an error: it sees
                                       misses, false positives, position; overall: mean of classes
    olrp_localization       yes        its parts, at the same scores: mean 1 - IoU of what is found,
    olrp_false_positive     yes        share of detections that are false,
    olrp_false_negative     yes        share of objects that are missed
    support                 only       ground truths of the class that are to be found
    matched_iou             no         on images without labels alone, against the boxes of the
                                       unmodified model: mean IoU of those that are kept,
    class_flips             no         share of them that have another class,
    lost_boxes              no         share of them that are gone,
    new_boxes               no         other boxes, as a share of them
    ======================  =========  =============================================================

    Attributes:
        overall: key to number.
        per_class: class name to key to number.
        thresholds: the score thresholds used.
        counts: images, ground_truths (those to be found), ignored (regions), detections; and
            tp, fp, fn at each threshold (``tp_fixed``, ``tp_calibrated`` ...); max_detections
            where that is not 100; where images belong together, clusters, images of the largest,
            and as many clusters of one size as tell as much (``equal_clusters``).
    """

    overall: dict[str, Number]
    per_class: dict[str, dict[str, Number]]
    thresholds: Thresholds
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``.

        Raises:
            UserError: values of another form.
        """
        try:
            used = values["thresholds"]
            return cls(
                overall=_numbers(values["overall"], KEYS),
                per_class={
                    name: _numbers(row, ("support", "AP"))
                    for name, row in values["per_class"].items()
                },
                thresholds=Thresholds(
                    fixed=float(used["fixed"]),
                    calibrated=float(used["calibrated"]),
                    calibrated_here=bool(used["calibrated_here"]),
                    folds=tuple(float(one) for one in used.get("folds", ())),
                ),
                counts={key: int(count) for key, count in values["counts"].items()},
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise UserError(
                f"not an evaluation: {type(error).__name__} {error}; expected the parts "
                '"overall", "per_class", "thresholds" and "counts"'
            ) from None


def evaluate(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    score_threshold: float | Calibration | None = None,
    fixed_threshold: float = 0.5,
) -> Evaluation:
    """Every metric of ``detections``; ``Evaluation`` lists them.

    Detections that are few, poor or none at all give low numbers, never an exception.

    Args:
        score_threshold: the calibrated threshold. Give a variant its baseline's,
            ``baseline.thresholds.calibration``; None calibrates on these detections, which makes
            them the baseline.
        fixed_threshold: of the ``*_fixed`` numbers.

    Raises:
        UserError: a threshold that is not finite, or detections that point outside the ground
            truth.
    """
    if isinstance(score_threshold, int | float):
        score_threshold = Calibration(float(score_threshold))
    given = score_threshold or Calibration(0.0)
    for name, thresholds in (
        ("score_threshold", (given.whole, *given.folds)),
        ("fixed_threshold", (fixed_threshold,)),
    ):
        for threshold in thresholds:
            if not math.isfinite(threshold):
                raise UserError(f"{name} must be a finite number, got {threshold}")
    matches = greedy_matches(ground_truth, detections)
    if ground_truth.own_score is not None:  # the score that its objects were chosen by
        score_threshold = Calibration(ground_truth.own_score)
    used = score_threshold or cross_fitted(ground_truth, detections, matches)
    calibrated = used.of_images(ground_truth)[detections.image]

    ap = average_precision(ground_truth, detections)
    overall, columns = dict(ap.overall), {"AP": ap.ap, "AP50": ap.ap50}
    counts = _counts(ground_truth, detections, matches)
    fixed, fitted = f1_at(matches, fixed_threshold), f1_at(matches, calibrated)
    for kind, f1 in (("fixed", fixed), ("calibrated", fitted)):
        overall |= f1.overall(kind)
        columns |= f1.per_class(kind)
        counts |= f1.counts(kind)
    lrp = optimal_lrp(ground_truth, detections, matches)
    overall |= lrp.overall()
    columns |= lrp.per_class()
    of_pairs = _of_pairs(ground_truth, detections, calibrated)
    overall |= {key: whole for key, (whole, _) in of_pairs.items()}
    columns |= {key: by_class for key, (_, by_class) in of_pairs.items()}
    if ground_truth.own_score is not None:
        overall |= fidelity(ground_truth, detections)
    return Evaluation(
        overall={key: finite(value) for key, value in overall.items()},
        per_class=_by_class(ground_truth.classes, columns, matches.support),
        thresholds=Thresholds(
            float(fixed_threshold), used.whole, score_threshold is None, used.folds
        ),
        counts=counts,
    )


def _counts(truth: GroundTruth, detections: Detections, matches: Matches) -> dict[str, int]:
    counts = {
        "images": len(truth.image_ids),
        "ground_truths": int(matches.support.sum()),
        "ignored": int(truth.ignore.sum()),
        "detections": len(detections),
    }
    if truth.clusters is not None:
        sizes = np.bincount(families(truth))
        counts["clusters"], counts["largest_cluster"] = len(sizes), int(sizes.max(initial=0))
        counts["equal_clusters"] = round(freedom(sizes)) + 1
    if truth.max_detections != MAX_DETECTIONS:
        counts["max_detections"] = truth.max_detections
    return counts


def _of_pairs(
    truth: GroundTruth, detections: Detections, calibrated: NDArray[np.float64]
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Numbers over Hungarian pairs, of all classes and by class: the published ones over pairs of
    any score, ours over those at the calibrated thresholds."""
    published = published_pairs(truth, detections)
    f1 = f1_matched_pairs(truth, detections, published)
    of_published = published_giou(truth, detections, published)
    giou = matched_giou(truth, hungarian_pairs(truth, detections, calibrated))
    return {
        "f1_matched_pairs": (f1.overall, f1.per_class),
        "giou_published": (of_published.overall, of_published.per_class),
        "giou_matched": (giou.matched_mean, giou.class_matched_mean),
        "match_rate": (giou.match_rate, giou.class_match_rate),
        "giou_penalized": (giou.penalized_mean, giou.class_penalized_mean),
    }


def _by_class(
    classes: tuple[str, ...], columns: Mapping[str, NDArray[np.float64]], support: NDArray[np.int64]
) -> dict[str, dict[str, Number]]:
    rows: dict[str, dict[str, Number]] = {}
    for index, name in enumerate(classes):
        rows[name] = {key: finite(values[index]) for key, values in columns.items()}
        rows[name]["support"] = int(support[index])
    return rows


def _numbers(values: Mapping[str, Any], needed: Sequence[str]) -> dict[str, Number]:
    lacking = [key for key in needed if key not in values]
    if lacking:
        raise KeyError(lacking[0])
    for key, value in values.items():
        known = not isinstance(value, bool) and isinstance(value, int | float)
        if value is not None and not (known and math.isfinite(value)):
            raise ValueError(f"{key} is {value!r:.80}")
    return dict(values)
