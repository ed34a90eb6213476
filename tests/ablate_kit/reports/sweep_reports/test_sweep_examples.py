"""Which photographs a report shows."""

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.reports.sweep_reports.sweep_examples import examples
from detector.data.shapes import Shapes

DATASET = Shapes(3, seed=5, size=96)
TRUTH = ground_truth(DATASET)


def without(lost: NDArray[np.bool_]) -> Detections:
    """Every object but some, exactly where it is."""
    kept = np.flatnonzero(~lost)
    scores = np.full(len(kept), 0.9)
    return Detections(TRUTH.image[kept], TRUTH.boxes[kept], scores, TRUTH.labels[kept])


def results(truth: GroundTruth, *found: Detections) -> list[Result]:
    threshold, made = None, []
    for i, one in enumerate(found):
        made.append(
            Result.of(f"variant {i}", "", truth, one, threshold=threshold, fixed_threshold=0.5)
        )
        threshold = made[0].evaluation.thresholds.calibrated
    return made


def test_each_variant_is_shown_where_it_loses_most() -> None:
    everything = np.zeros(len(TRUTH), dtype=bool)
    first = everything.copy()
    first[np.flatnonzero(TRUTH.image == 1)] = True
    first[np.flatnonzero(TRUTH.image == 2)[0]] = True
    baseline, *variants = results(
        TRUTH, without(everything), without(first), without(first), without(everything)
    )
    shown = list(examples(TRUTH, DATASET, baseline, variants))
    # No image twice, and none for a variant that loses nothing.
    assert [(one.variant, one.image_id) for one in shown] == [
        ("variant 1", int(TRUTH.image_ids[1])),
        ("variant 2", int(TRUTH.image_ids[2])),
    ]
    assert shown[0].lost == (TRUTH.image == 1).sum()
    assert shown[1].lost == 1
    assert shown[0].gained == 0
    assert shown[0].file_name == DATASET.annotations(1).file_name
    # Side by side, small pictures enlarged: a box on the left only.
    left, right = (
        np.asarray(shown[0].picture)[:, part] for part in (slice(360), slice(-360, None))
    )
    assert left.shape == right.shape
    assert (left != right).any()
