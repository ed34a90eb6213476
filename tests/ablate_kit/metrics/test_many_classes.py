"""Memory follows the classes that occur, not those that a file lists."""

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.confusion import confusion
from ablate_kit.metrics.detections import Detections, GroundTruth


def inputs(classes: int, labels: list[int]) -> tuple[GroundTruth, Detections]:
    rng = np.random.default_rng(3)
    count = 40
    starts = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([starts, starts + rng.uniform(5, 30, (count, 2))], axis=1)
    truth = GroundTruth.from_coco(
        {
            "images": [{"id": i, "width": 100, "height": 100} for i in range(4)],
            "categories": [{"id": 7 * i, "name": f"c{i}"} for i in range(classes)],
            "annotations": [
                {"id": i + 1, "image_id": i % 4, "category_id": 7 * labels[i % len(labels)],
                 "bbox": [x, y, x2 - x, y2 - y], "area": (x2 - x) * (y2 - y), "iscrowd": 0}
                for i, (x, y, x2, y2) in enumerate(boxes.tolist())
            ],
        }
    )  # fmt: skip
    shifted = boxes + rng.normal(0, 2, boxes.shape)
    found = Detections(
        image=truth.image.copy(), boxes=np.sort(shifted.reshape(-1, 2, 2), axis=1).reshape(-1, 4),
        scores=rng.uniform(size=count), labels=rng.permutation(truth.labels),
    )  # fmt: skip
    return truth, found


def test_classes_that_do_not_occur_change_nothing() -> None:
    few, many = inputs(3, [0, 2]), inputs(20_000, [0, 19_999])
    one, other = average_precision(*few), average_precision(*many)
    assert repr(one.overall) == repr(other.overall)  # NaN included
    assert one.ap[[0, 2]].tolist() == other.ap[[0, 19_999]].tolist()
    assert np.isfinite(one.ap[[0, 2]]).all()
    assert np.isnan(other.ap[1:-1]).all()
    assert one.ap_at[:, 2].tolist() == other.ap_at[:, -1].tolist()

    small, large = confusion(*few, 0.2), confusion(*many, 0.2)
    assert large.classes.tolist() == [0, 19_999]
    assert small.classes.tolist() == [0, 1, 2]
    kept = np.ix_([0, 2, 3], [0, 2, 3])
    assert small.counts[kept].tolist() == large.counts.tolist()
    assert small.counts.sum() == large.counts.sum() > 0


def test_too_many_that_do_occur_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate_kit.metrics.average_precision._MOST_CLASSES", 1)
    monkeypatch.setattr("ablate_kit.metrics.confusion._MOST", 1)
    truth, found = inputs(3, [0, 2])
    with pytest.raises(UserError, match="of 2 classes; AP is computed for up to 1"):
        average_precision(truth, found)
    with pytest.raises(UserError, match="confusions are counted for up to 1 classes, not 3"):
        confusion(truth, found, 0.5)
