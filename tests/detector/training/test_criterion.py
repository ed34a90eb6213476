"""Loss terms against values worked out by hand."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from detector.boxes import giou, to_corners
from detector.data.training_set import Target
from detector.network.model import Predictions
from detector.network.modules.denoising import Denoised
from detector.training.criterion import criterion, denoising_factor, focal
from detector.training.loss_settings import LossSettings
from detector.training.matcher import match

ONES = LossSettings(1, 1, 1, 1, 1, 1, 1)


def target(boxes: list[list[float]], labels: list[int]) -> Target:
    return Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        image_id=1,
    )


def predictions(logits: list[list[float]], boxes: list[list[float]]) -> Predictions:
    box = torch.tensor([boxes], requires_grad=True)
    return Predictions(
        logits=torch.tensor([logits], requires_grad=True),
        boxes=box,
        references=torch.tensor([[[0.5, 0.5]] * len(boxes)]),
    )


# Two classes and background. Query 0 is right, query 1 sees background.
LOGITS = [[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
BOXES = [[0.4, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]]
OBJECT = [[0.5, 0.5, 0.2, 0.2]]  # shares half of query 0's width


def test_terms_equal_the_formulas_worked_out_by_hand() -> None:
    out = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], ONES)
    p0 = math.exp(2) / (math.exp(2) + 2)
    p1 = math.e / (math.e + 2)
    iou = 0.02 / 0.06  # the hull of the two boxes is their union
    matched = 0.25 * (1 - p0) ** 2 * -math.log(p0) * iou
    unmatched = 0.75 * (1 - p1) ** 2 * -math.log(p1) * 0.1
    assert out["labels"].item() == pytest.approx(matched + unmatched, rel=1e-5)
    assert out["boxes"].item() == pytest.approx(0.1, rel=1e-5)
    assert out["giou"].item() == pytest.approx(1 - iou, rel=1e-5)
    assert out["center"].item() == pytest.approx(0.1, rel=1e-5)
    expected = (1 - 1 / (math.exp(2) + 2)) + (1 - p1)
    assert out["cardinality"].item() == pytest.approx(abs(expected - 1), rel=1e-5)
    total = sum(value.item() for name, value in out.items() if name != "loss")
    assert out["loss"].item() == pytest.approx(total, rel=1e-5)


def test_a_quality_floor_lets_a_box_that_is_off_learn_its_class() -> None:
    off = [[0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]]
    floor = dataclasses.replace(ONES, quality_floor=0.5)
    plain, floored = (
        criterion(predictions(LOGITS, off), [target(OBJECT, [0])], settings)["labels"].item()
        for settings in (ONES, floor)
    )
    p0 = math.exp(2) / (math.exp(2) + 2)
    assert floored - plain == pytest.approx(0.5 * 0.25 * (1 - p0) ** 2 * -math.log(p0), rel=1e-5)


def test_weights_multiply_their_terms() -> None:
    plain = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], ONES)
    default = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], LossSettings())
    factors = {"labels": 2, "boxes": 5, "giou": 2.5, "center": 0.1, "cardinality": 0.1}
    for name, factor in factors.items():
        assert default[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-5)


def test_earlier_layers_are_matched_on_their_own() -> None:
    out = predictions(LOGITS, BOXES)
    # In the earlier layer the second query holds the object.
    logits, boxes = torch.tensor([LOGITS[::-1]]), torch.tensor([BOXES[::-1]])
    out["aux"] = [(logits, boxes)]
    terms = criterion(out, [target(OBJECT, [0])], LossSettings())
    for name in ("labels", "boxes", "giou"):
        assert terms[f"{name}_0"].item() == pytest.approx(0.4 * terms[name].item(), rel=1e-5)


def test_dense_maps_learn_the_cells_around_each_center() -> None:
    """Of a map of zeros: 0.25 * 0.25 * ln 2 where an object is, three times that elsewhere."""
    out = predictions(LOGITS, BOXES)
    out["dense"] = [torch.zeros(1, 2 + 4, 4, 4)]
    corner = target([[0.0, 0.0, 0.1, 0.1]], [1])  # 2x2 of its 3x3 cells lie in the map
    cell = 0.25 * math.log(2)
    expected = (4 * 0.25 * cell + (32 - 4) * 0.75 * cell) / 32
    assert criterion(out, [corner], ONES)["dense"].item() == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_objects_learns_background_only() -> None:
    out = predictions(LOGITS, BOXES)
    terms = criterion(out, [target([], [])], ONES)
    assert terms["boxes"].item() == terms["giou"].item() == terms["center"].item() == 0
    assert terms["labels"].item() > 0
    terms["loss"].backward()
    assert out["logits"].grad is not None
    assert out["logits"].grad.abs().sum() > 0


def test_objects_beyond_the_number_of_queries_count_one_each() -> None:
    """loss_giou = 1 - (sum of matched GIoU) / n: two queries, five objects, three without one."""
    boxes = [
        [0.4, 0.5, 0.2, 0.2],
        [0.9, 0.9, 0.1, 0.1],
        *[[0.1, 0.1 + i / 10, 0.05, 0.05] for i in range(3)],
    ]
    out = predictions(LOGITS, BOXES)
    out["aux"] = [(out["logits"], out["boxes"])]
    terms = criterion(out, [target(boxes, [0, 1, 0, 1, 0])], ONES)
    assert terms["giou"].item() == pytest.approx(1 - 2 / 5, rel=1e-5)
    assert terms["giou_0"].item() == pytest.approx(1 - 2 / 5, rel=1e-5)
    assert terms["boxes"].item() == pytest.approx(0, abs=1e-6)


def test_batching_sums_over_objects() -> None:
    """Two copies of an image have the loss of one, being divided by the number of objects."""
    one = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], ONES)
    single = predictions(LOGITS, BOXES)
    double = Predictions(
        logits=single["logits"].repeat(2, 1, 1),
        boxes=single["boxes"].repeat(2, 1, 1),
        references=single["references"].repeat(2, 1, 1),
    )
    two = criterion(double, [target(OBJECT, [0])] * 2, ONES)
    for name, value in one.items():
        assert two[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_the_matcher_takes_the_assignment_of_least_cost() -> None:
    """Greedy by class would give both objects query 0; together they are cheaper apart."""
    logits = torch.tensor([[[3.0, 3.0, 0.0], [3.0, 0.0, 0.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.2, 0.2]] * 2)
    images, (queries,), (objects,) = match(logits[None], boxes[None], [2], labels, targets)
    assert images.tolist() == [0, 0]
    assert dict(zip(objects.tolist(), queries.tolist(), strict=True)) == {0: 1, 1: 0}


def test_the_matcher_keeps_images_and_layers_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 3, 4, generator=generator)
    boxes = torch.rand(2, 3, 3, 4, generator=generator)
    counts = [2, 0, 4]  # the last has more than there are queries
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    targets = torch.rand(6, 4, generator=generator)
    images, queries, objects = match(logits, boxes, counts, labels, targets)
    assert images.tolist() == [0, 0, 2, 2, 2]
    for layer in range(2):
        scores, predicted = logits[layer, None], boxes[layer, None]
        for i, own in ((0, slice(0, 2)), (2, slice(2, 6))):
            one = slice(i, i + 1)
            given = scores[:, one], predicted[:, one], [counts[i]], labels[own], targets[own]
            alone = match(*given)
            assert queries[layer, images == i].equal(alone.queries[0])
            assert objects[layer, images == i].equal(alone.objects[0] + own.start)


def test_focal_loss_of_a_certain_right_answer_is_zero() -> None:
    logits = torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.0, 50.0]])
    assert focal(logits, torch.tensor([0, 2])).abs().max().item() < 1e-12


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),
        ([0, 0, 1, 1], [2, 0, 3, 1], -1 / 3),  # hull 3, union 2
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7 - 2 / 9),
        ([0, 0, 0, 0], [1, 1, 1, 1], -1.0),
    ],
)
def test_giou_by_hand(a: list[float], b: list[float], expected: float) -> None:
    boxes = (torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert giou(*boxes).item() == pytest.approx(expected)


def test_corners_of_a_centered_box() -> None:
    box: Tensor = to_corners(torch.tensor([0.5, 0.4, 0.2, 0.6]))
    assert box.tolist() == pytest.approx([0.4, 0.1, 0.6, 0.7])


def test_the_iou_head_learns_the_iou_of_matched_boxes() -> None:
    out = predictions(LOGITS, BOXES)
    out["iou_logits"] = torch.tensor([[math.log(3.0), 5.0]], requires_grad=True)  # 0.75
    terms = criterion(out, [target(OBJECT, [0])], ONES)
    iou = 0.02 / 0.06
    expected = -(iou * math.log(0.75) + (1 - iou) * math.log(0.25))
    assert terms["iou"].item() == pytest.approx(expected, rel=1e-5)
    (slope,) = torch.autograd.grad(terms["iou"], out["iou_logits"])
    assert slope.tolist() == [[pytest.approx(0.75 - iou, rel=1e-5), 0.0]]
    assert "iou" not in criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], ONES)


def test_predicted_iou_can_weigh_the_classes() -> None:
    out = predictions(LOGITS, BOXES)
    out["iou_logits"] = torch.tensor([[math.log(3.0), 5.0]], requires_grad=True)
    share = dataclasses.replace(ONES, quality_predicted=0.5)
    difference = (
        criterion(out, [target(OBJECT, [0])], share)["labels"]
        - criterion(out, [target(OBJECT, [0])], ONES)["labels"]
    )
    p0 = math.exp(2) / (math.exp(2) + 2)
    per_weight = 0.25 * (1 - p0) ** 2 * -math.log(p0)
    assert difference.item() == pytest.approx(0.5 * (0.75 - 1 / 3) * per_weight, rel=1e-4)


def test_the_denoising_variant_divides_and_compares_by_queries() -> None:
    settings = dataclasses.replace(
        ONES, labels_per="query", cardinality_of="mean", center_of="all", quality_floor=0.05
    )
    plain = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], ONES)
    out = criterion(predictions(LOGITS, BOXES), [target(OBJECT, [0])], settings)
    assert out["labels"].item() == pytest.approx(plain["labels"].item() / 2, rel=1e-5)
    objectness = [1 - 1 / (math.exp(2) + 2), 1 - math.e / (math.e + 2)]
    assert out["cardinality"].item() == pytest.approx(1 - sum(objectness) / 2, rel=1e-5)
    assert out["center"].item() == pytest.approx((0.1 + 0.8) / 2, rel=1e-5)
    assert out["boxes"].item() == plain["boxes"].item()


def test_objectness_learns_which_queries_are_matched() -> None:
    out = predictions(LOGITS, BOXES)
    out["objectness_logits"] = torch.tensor([[2.0, -1.0]])
    terms = criterion(out, [target(OBJECT, [0])], dataclasses.replace(ONES, objectness=1.0))
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert terms["objectness"].item() == pytest.approx(expected, rel=1e-5)


def denoising_predictions() -> Predictions:
    """A positive, a negative and an unused denoising query after two layers."""
    out = predictions(LOGITS, BOXES)
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [9.0, 0.0, 0.0]]])
    boxes = torch.tensor([[[0.4, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]]])
    wanted = torch.tensor([OBJECT * 3])
    out["denoised"] = Denoised(
        noisy_labels=torch.zeros(1, 3, dtype=torch.long),
        noisy_boxes=wanted,
        labels=torch.tensor([[0, 2, 2]]),
        boxes=wanted,
        used=torch.tensor([[True, True, False]]),
        positive=torch.tensor([[True, False, False]]),
        group=torch.zeros(3, dtype=torch.long),
    )
    out["denoising"] = [(logits, boxes), (logits, boxes)]
    return out


def test_denoising_terms_equal_the_formulas_worked_out_by_hand() -> None:
    settings = dataclasses.replace(ONES, aux=0.4)
    out = criterion(denoising_predictions(), [target(OBJECT, [0])], settings, 0.5)
    p0 = math.exp(2) / (math.exp(2) + 2)
    p1 = math.e / (math.e + 2)
    right = 0.25 * (1 - p0) ** 2 * -math.log(p0)
    background = 0.75 * (1 - p1) ** 2 * -math.log(p1)
    expected = {
        "denoising_labels": 1.2 * (right + background) / 2,
        "denoising_boxes": 0.75 * 0.1,
        "denoising_giou": 0.75 * (1 - 0.02 / 0.06),
    }
    for name, value in expected.items():
        assert out[name].item() == pytest.approx(0.5 * value, rel=1e-5)
        assert out[f"{name}_0"].item() == pytest.approx(0.4 * 0.5 * value, rel=1e-5)


def test_denoising_warms_up_from_a_third() -> None:
    assert [denoising_factor(epoch, 4) for epoch in range(6)] == pytest.approx(
        [2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1]
    )
    assert denoising_factor(0, 0) == 1.0
