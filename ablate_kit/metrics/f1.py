"""F1 in three kinds, which are never comparable with one another.

1. At a fixed score threshold: ``f1_at(matches, 0.5)``.
2. At the threshold that suits the baseline best, chosen on other images (``calibration``).
3. Over matched pairs: ``f1_matched_pairs``, the published Deep Dissect protocol. It sees the class
   of boxes that have a partner and is blind to misses and to false positives.

A quotient without anything to divide by is 0 where there is ground truth (no detection gives a
precision of 0), and NaN where there is none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.curves import curves
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import BoxPairs, Matches, Outcome, OverPairs


@dataclass(frozen=True, eq=False)
class F1:
    """F1, precision and recall from a score threshold on."""

    # true_positives, false_positives, false_negatives: (classes,) boxes.
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]
    # f1, precision, recall: over the summed boxes of all classes (micro).
    f1: float
    precision: float
    recall: float
    macro_f1: float  # mean of ``class_f1`` over the classes that have ground truth
    # class_f1, class_precision, class_recall: (classes,) NaN for a class without ground truth.
    class_f1: NDArray[np.float64]
    class_precision: NDArray[np.float64]
    class_recall: NDArray[np.float64]

    def overall(self, kind: str) -> dict[str, float]:
        return {
            f"f1_{kind}": self.f1,
            f"precision_{kind}": self.precision,
            f"recall_{kind}": self.recall,
            f"macro_f1_{kind}": self.macro_f1,
        }

    def per_class(self, kind: str) -> dict[str, NDArray[np.float64]]:
        return {
            f"f1_{kind}": self.class_f1,
            f"precision_{kind}": self.class_precision,
            f"recall_{kind}": self.class_recall,
        }

    def counts(self, kind: str) -> dict[str, int]:
        return {
            f"tp_{kind}": int(self.true_positives.sum()),
            f"fp_{kind}": int(self.false_positives.sum()),
            f"fn_{kind}": int(self.false_negatives.sum()),
        }


def f1_at(matches: Matches, threshold: float | NDArray[np.float64]) -> F1:
    """F1 of the detections with a score of at least ``threshold``: one, or one per detection."""
    kept = matches.scores >= threshold
    support = matches.support
    tp, fp = (
        np.bincount(matches.labels[kept & (matches.outcome == outcome)], minlength=len(support))
        for outcome in (Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE)
    )
    class_f1 = _share(2 * tp, tp + fp + support, support)
    has_truth = support > 0
    all_tp, all_fp, all_support = tp.sum(), fp.sum(), support.sum()
    return F1(
        true_positives=tp,
        false_positives=fp,
        false_negatives=support - tp,
        f1=float(_share(2 * all_tp, all_tp + all_fp + all_support, all_support)),
        precision=float(_share(all_tp, all_tp + all_fp, all_support)),
        recall=float(_share(all_tp, all_support, all_support)),
        macro_f1=float(class_f1[has_truth].mean()) if has_truth.any() else float("nan"),
        class_f1=class_f1,
        class_precision=_share(tp, tp + fp, support),
        class_recall=_share(tp, support, support),
    )


def calibrate(matches: Matches) -> float:
    """The score threshold with the largest micro F1, the highest such threshold where several tie.

    Exact: every distinct score is tried, and detections that share a score stay or go together.
    Without a detection that counts, 0.
    """
    found = curves(matches)
    return float(found.threshold[np.argmax(found.f1)]) if len(found.f1) else 0.0


def f1_matched_pairs(
    ground_truth: GroundTruth, detections: Detections, pairs: BoxPairs
) -> OverPairs:
    """Whether the boxes of each pair agree on the class; ``pairs`` of ``published_pairs``.

    Overall the mean of the classes' F1, weighted by their ground truths among the pairs
    (scikit-learn's ``average="weighted"``); 0 without any pair. Of a class against the rest: 0 for
    one that has ground truth but no pair, NaN for one that has neither.
    """
    classes = len(ground_truth.classes)
    true, found = ground_truth.labels[pairs.truth], detections.labels[pairs.detection]
    support = np.bincount(true, minlength=classes)
    boxes = support + np.bincount(found, minlength=classes)
    agreed = np.bincount(true[true == found], minlength=classes)
    annotated = np.bincount(ground_truth.labels, minlength=classes)
    per_class = _share(2 * agreed, boxes, annotated + boxes)
    overall = _share(np.nansum(per_class * support), support.sum(), annotated.sum())
    return OverPairs(float(overall), per_class)


def _share(part: Any, whole: Any, defined: Any) -> NDArray[np.float64]:
    """``part / whole``; 0 where ``whole`` is 0, NaN where ``defined`` is."""
    share = np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
    return np.where(np.asarray(defined) > 0, share, np.nan)
