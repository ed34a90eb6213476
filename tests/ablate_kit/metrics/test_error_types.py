"""Causes of errors: hand-made scenes, and counts against two other tools."""

import dataclasses

import hotcoco
import numpy as np
import pytest

from ablate_kit.metrics.confusion import confusion
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.error_types import Cause, errors
from ablate_kit.metrics.transitions import changes, groups
from ablate_kit.models.labels.annotations import read_annotations
from tests.ablate_kit.made_up import found_of, overlap, truth_of

OBJECT = [0, 0, 100, 100]


def scene(*found, objects=((OBJECT, 0),), ignore=()):
    """One image; detections are (box, label, score)."""
    n = len(objects)
    truth = truth_of(
        np.zeros(n), [box for box, _ in objects], [label for _, label in objects], classes="ab",
        side=500, ignore=np.isin(np.arange(n), ignore),
    )  # fmt: skip
    boxes, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return truth, found_of(np.zeros(len(found)), boxes, scores, labels)


def causes(truth, detections, threshold=0.5):
    found = errors(truth, detections, threshold)
    return [Cause(c) for c in found.detection], [Cause(c) for c in found.truth]


HALF = [0, 0, 100, 40]  # IoU 0.4 with OBJECT
FAR = [300, 300, 400, 400]


@pytest.mark.parametrize(
    ("found", "of_detections", "of_object"),
    [
        ([(OBJECT, 0, 0.9)], [Cause.NONE], Cause.NONE),
        ([(OBJECT, 1, 0.9)], [Cause.CLASSIFICATION], Cause.CLASSIFICATION),
        ([(HALF, 0, 0.9)], [Cause.LOCALIZATION], Cause.LOCALIZATION),
        ([(HALF, 1, 0.9)], [Cause.BOTH], Cause.BOTH),
        ([(FAR, 0, 0.9)], [Cause.BACKGROUND], Cause.MISSED),
        ([(OBJECT, 0, 0.4)], [Cause.NONE], Cause.SCORE),
        ([(OBJECT, 0, 0.9), (OBJECT, 0, 0.8)], [Cause.NONE, Cause.DUPLICATE], Cause.NONE),
        ([], [], Cause.MISSED),
        ([(OBJECT, 1, 0.9), (HALF, 0, 0.9)], [Cause.CLASSIFICATION, Cause.LOCALIZATION],
         Cause.CLASSIFICATION),
    ],
)  # fmt: skip
def test_each_cause(found, of_detections, of_object):
    assert causes(*scene(*found)) == (of_detections, [of_object])


def test_one_box_for_two_objects():
    beside = [0, 20, 100, 120]
    truth, found = scene((OBJECT, 0, 0.9), objects=((OBJECT, 0), (beside, 0)))
    assert causes(truth, found) == ([Cause.NONE], [Cause.NONE, Cause.DUPLICATE])


def test_ignored_regions_are_no_errors():
    truth, found = scene((FAR, 0, 0.9), objects=((OBJECT, 0), (FAR, 0)), ignore=(1,))
    assert causes(truth, found) == ([Cause.NONE], [Cause.MISSED, Cause.NONE])


@pytest.fixture(scope="module")
def real(shared):
    against = read_annotations(shared / "data/coco/annotations/instances_val2017.json")
    path = shared / "data/detections/deimv2_coco/detections_val2017_deimv2_atto_results.json"
    return against.truth, read_dump(path, against)[0]


@pytest.mark.parametrize(
    ("there", "then", "cause"),
    [
        # Of another class, or beside, before and after alike: it is the score that fell.
        ((OBJECT, 1, 0.9), (OBJECT, 0, 0.4), Cause.SCORE),
        ((HALF, 0, 0.7), (OBJECT, 0, 0.4), Cause.SCORE),
        ((HALF, 1, 0.7), (OBJECT, 0, 0.4), Cause.SCORE),
        ((HALF, 0, 0.7), None, Cause.MISSED),
        # One more of them is a cause.
        ((OBJECT, 1, 0.9), (OBJECT, 1, 0.8), Cause.CLASSIFICATION),
        ((HALF, 0, 0.7), (HALF, 0, 0.8), Cause.LOCALIZATION),
        ((OBJECT, 1, 0.9), (HALF, 1, 0.8), Cause.BOTH),
        (None, (HALF, 0, 0.8), Cause.LOCALIZATION),
    ],
)
def test_what_was_there_before_explains_no_loss(there, then, cause):
    own = (OBJECT, 0, 0.8)
    truth, before = scene(*filter(None, (own, there)))
    _, after = scene(*filter(None, (then, there)))
    one, other = (errors(truth, found, 0.5) for found in (before, after))
    lost, gained = changes(truth, one, other), changes(truth, other, one)
    assert (lost.lost.tolist(), Cause(lost.cause[0])) == ([True], cause)
    assert (gained.gained.tolist(), Cause(gained.cause[0])) == ([True], cause)


def naive_causes(truth, found, threshold):
    """TIDE's rules for false positives, box by box (Bolya et al. 2020), without crowds."""
    counts = dict.fromkeys(Cause, 0)
    for image in range(len(truth.image_ids)):
        objects = np.flatnonzero(truth.image == image)
        rows = np.flatnonzero((found.image == image) & (found.scores >= threshold))
        taken = set()
        wrong = []
        overlaps = {
            (d, g): overlap(found.boxes[d].tolist(), truth.boxes[g].tolist())
            for d in rows for g in objects
        }  # fmt: skip
        for d in rows[np.argsort(-found.scores[rows], kind="stable")]:
            own = [g for g in objects if truth.labels[g] == found.labels[d]]
            able = [g for g in own if g not in taken and overlaps[d, g] >= 0.5]
            if able:
                taken.add(max(able, key=lambda g, d=d: overlaps[d, g]))
            else:
                wrong.append((d, own))
        for d, own in wrong:
            same = max((overlaps[d, g] for g in own), default=0.0)
            other = max((overlaps[d, g] for g in objects if g not in own), default=0.0)
            if 0.1 <= same < 0.5:
                counts[Cause.LOCALIZATION] += 1
            elif other >= 0.5:
                counts[Cause.CLASSIFICATION] += 1
            elif any(overlaps[d, g] >= 0.5 for g in own if g in taken):
                counts[Cause.DUPLICATE] += 1
            elif max(same, other) <= 0.1:
                counts[Cause.BACKGROUND] += 1
            else:
                counts[Cause.BOTH] += 1
    return counts


@pytest.mark.parametrize("threshold", [0.0, 0.345])
def test_false_positives_against_a_naive_loop(threshold):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 50, (60, 2))], axis=1)
    truth = truth_of(
        np.repeat(np.arange(10), 6), boxes, rng.integers(0, 2, 60), images=10, classes="ab"
    )
    moved = np.repeat(boxes, 3, axis=0) + rng.normal(0, 6, (180, 4))
    found = found_of(np.repeat(np.arange(10), 18), moved, rng.random(180), rng.integers(0, 2, 180))
    naive = naive_causes(truth, found, threshold)
    ours = errors(truth, found, threshold).false_positives
    assert ours == {cause: naive[cause] for cause in ours}
    kinds = [one for one in Cause if 0 < one < Cause.BACKGROUND]
    assert min(ours[one] for one in kinds) > 0


def without_crowds(truth):
    kept = ~truth.ignore
    columns = ("image", "boxes", "labels", "ignore", "areas", "ids", "sizes")
    return dataclasses.replace(truth, **{name: getattr(truth, name)[kept] for name in columns})


def test_counts_of_hotcoco(real):
    truth, found = without_crowds(real[0]), real[1]
    dataset = truth.to_coco()
    theirs = hotcoco.COCO(dataset)
    evaluation = hotcoco.COCOeval(theirs, theirs.load_res(found.to_coco_results(truth)), "bbox")
    evaluation.evaluate()
    counts = evaluation.tide_errors()["counts"]
    ours = errors(truth, found, threshold=0).false_positives
    # TIDE itself (tidecv 1.0.1) on the same files without their crowds.
    recorded = {"Cls": 2786, "Loc": 3354, "Both": 4315, "Dupe": 1103, "Bkg": 8059, "Miss": 455}
    assert counts == recorded
    assert {name: counts[name] for name in ("Cls", "Loc", "Both", "Dupe", "Bkg")} == {
        "Cls": ours[Cause.CLASSIFICATION],
        "Loc": ours[Cause.LOCALIZATION],
        "Both": ours[Cause.BOTH],
        "Dupe": ours[Cause.DUPLICATE],
        "Bkg": ours[Cause.BACKGROUND],
    }


def test_changes_add_up(real):
    truth, found = real
    before = errors(truth, found, 0.345)
    rng = np.random.default_rng(0)
    scores = np.clip(found.scores + rng.normal(0, 0.1, len(found)), 0, 1)
    after = errors(truth, dataclasses.replace(found, scores=scores), 0.345)
    result = changes(truth, before, after)
    found_before, found_after = (
        ((one.truth == Cause.NONE) & ~truth.ignore).sum() for one in (before, after)
    )
    assert result.lost.sum() > 20
    assert result.gained.sum() > 20
    assert found_before - result.lost.sum() + result.gained.sum() == found_after
    assert sum(result.tally(result.lost).values()) == result.lost.sum()
    rows = list(groups(truth, result))
    total = rows[-1]
    assert (total.label, total.size, total.support) == ("all", "all", (~truth.ignore).sum())
    for field in ("support", "lost", "gained", "found_before", "found_after"):
        parts = [row for row in rows if row.label != "all" and row.size != "all"]
        assert sum(getattr(row, field) for row in parts) == getattr(total, field), field
    nothing = changes(truth, before, before)
    assert not nothing.lost.any()
    assert not nothing.gained.any()


def naive_confusion(truth, found, threshold):
    counts = np.zeros((len(truth.classes) + 1,) * 2, dtype=int)
    for image in range(len(truth.image_ids)):
        objects = [g for g in range(len(truth)) if truth.image[g] == image]
        rows = [d for d in range(len(found))
                if found.image[d] == image and found.scores[d] >= threshold]  # fmt: skip
        free = {g for g in objects if not truth.ignore[g]}
        for d in sorted(rows, key=lambda d: -found.scores[d]):

            def overlap(g, d=d, crowd=False):
                tl = np.maximum(truth.boxes[g, :2], found.boxes[d, :2])
                br = np.minimum(truth.boxes[g, 2:], found.boxes[d, 2:])
                inter = np.prod(np.maximum(br - tl, 0))
                one, two = (np.prod(b[2:] - b[:2]) for b in (found.boxes[d], truth.boxes[g]))
                return inter / (one if crowd else one + two - inter)

            able = [g for g in free if overlap(g) >= 0.5]
            if able:
                best = max(able, key=lambda g: (overlap(g), found.labels[d] == truth.labels[g], -g))
                free.discard(best)
                counts[truth.labels[best], found.labels[d]] += 1
            elif not any(truth.ignore[g] and overlap(g, crowd=True) >= 0.5 for g in objects):
                counts[-1, found.labels[d]] += 1
        for g in free:
            counts[truth.labels[g], -1] += 1
    return counts


def test_confusion_against_a_naive_loop(real):
    truth, found = real
    few = found.rows(found.scores > 0.3)
    ours = confusion(truth, few, 0.345)
    np.testing.assert_array_equal(ours.counts, naive_confusion(truth, few, 0.345))
    assert ours.counts[:-1].sum() == (~truth.ignore).sum()
    assert (ours.counts[:-1, :-1].sum() - np.trace(ours.counts[:-1, :-1])) > 30
