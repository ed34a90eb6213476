"""Denoising queries by both schemes: their numbers, noise, targets, and who sees whom."""

import math

import pytest
import torch
from torch import Tensor

from detector.boxes import to_corners
from detector.config import CONTRASTIVE_DENOISING, HybridConfig, preset
from detector.network.model import HybridDetector, Objects
from detector.network.modules.denoising import Denoised, Denoising, add_noise

THESIS = HybridConfig(denoising="thesis")
CONTRASTIVE = HybridConfig(**CONTRASTIVE_DENOISING)
SMALL = preset("tiny").replace(
    num_classes=3, image_size=64, widths=[16, 32, 32, 32], d_model=32, queries=6
)


def noisy(config: HybridConfig, counts: list[int], seed: int = 0) -> Denoised:
    """Noise on images with so many objects of classes 0, 1, ... and sides 0.2 and 0.1."""
    labels = [torch.arange(count) % config.num_classes for count in counts]
    boxes = [
        torch.stack(
            [torch.linspace(0.3, 0.7, count), torch.full((count,), 0.5)]
            + [torch.full((count,), side) for side in (0.2, 0.1)],
            dim=-1,
        )
        for count in counts
    ]
    made = add_noise(labels, boxes, config, torch.Generator().manual_seed(seed))
    assert made is not None
    return made


@pytest.mark.parametrize(("objects", "queries"), [(1, 10), (3, 30), (9, 90), (10, 100), (40, 100)])
def test_the_thesis_makes_as_many_queries_as_measured(objects: int, queries: int) -> None:
    # Measured on the thesis' code.
    assert len(noisy(THESIS, [1, objects]).group) == queries


def test_the_thesis_repeats_or_cuts_the_objects_of_an_image() -> None:
    made = noisy(THESIS, [2, 5, 0])
    first, second = made.labels[:2, :5].tolist()
    assert first == [0, 1, 0, 1, 0]
    assert second == [0, 1, 2, 3, 4]
    assert made.used.all(1).tolist() == [True, True, False]
    assert not made.used[2].any()
    assert not made.positive[2].any()
    assert noisy(THESIS, [14]).labels[0, :10].tolist() == list(range(10))


def test_the_groups_of_the_thesis_are_copies() -> None:
    made = noisy(THESIS, [3])
    for tensor in (made.noisy_labels[0], made.noisy_boxes[0], made.labels[0], made.positive[0]):
        first, *others = tensor.split(6)
        assert all(torch.equal(first, other) for other in others)
    assert made.positive[0, :6].tolist() == [True] * 3 + [False] * 3
    assert made.group.tolist() == [i for i in range(5) for _ in range(6)]


def test_noise_of_the_thesis_lies_in_its_bounds() -> None:
    draws = [noisy(THESIS, [10], seed) for seed in range(60)]
    near = torch.cat([draw.noisy_boxes[0, :10] for draw in draws])
    far = torch.cat([draw.noisy_boxes[0, 10:20] for draw in draws])
    wanted = torch.cat([draw.boxes[0, :10] for draw in draws])
    shift, size = near[:, :2] - wanted[:, :2], near[:, 2:] / wanted[:, 2:]
    assert 0.19 < shift.abs().max() <= 0.2
    assert 0.8 <= size.min() < 0.81
    assert 1.19 < size.max() <= 1.2
    assert far[:, :2].min() < 0.01
    assert far[:, :2].max() > 0.99
    size = far[:, 2:] / wanted[:, 2:]
    assert 0.5 <= size.min() < 0.51
    assert 1.49 < size.max() <= 1.5


def test_labels_of_the_thesis_are_right_as_often_as_they_should_be() -> None:
    draws = [noisy(THESIS, [10], seed) for seed in range(300)]
    right = torch.stack([draw.noisy_labels[0] == draw.labels[0] for draw in draws]).double()
    kept = right[:, :10].mean().item()
    # Half are replaced, by the same class in one of 20 cases.
    assert kept == pytest.approx(0.525, abs=4 * math.sqrt(0.525 * 0.475 / 3000))
    assert right[:, 10:20].sum() == 0  # negatives: never
    assert all(torch.equal(draw.labels[0, :10], draw.labels[0, 10:20]) for draw in draws)


def test_contrastive_groups_hold_every_object_twice() -> None:
    made = noisy(CONTRASTIVE, [3, 14, 0])
    assert len(made.group) == 7 * 28  # 200 // 28 groups
    assert made.used.sum(1).tolist() == [7 * 6, 7 * 28, 0]
    assert made.positive.sum(1).tolist() == [7 * 3, 7 * 14, 0]
    assert made.labels[0, :28].tolist() == [0, 1, 2] + [20] * 25
    assert made.used[0, 14:17].all()  # the negatives learn background


def test_a_contrastive_group_is_there_for_however_many_objects() -> None:
    made = noisy(CONTRASTIVE, [130])
    assert made.group.tolist() == [0] * 260


def test_contrastive_groups_differ() -> None:
    first, *others = noisy(CONTRASTIVE, [2]).noisy_boxes[0].split(4)
    assert len(others) == 49
    assert not any(torch.equal(first, other) for other in others)


def corner_shifts(made: Denoised, which: Tensor) -> Tensor:
    """Distance of each corner coordinate from the true one, in half sides of the box."""
    moved = to_corners(made.noisy_boxes[which]) - to_corners(made.boxes[which])
    return (moved / made.boxes[which][:, [2, 3, 2, 3]] * 2).abs()


def test_contrastive_noise_is_relative_to_the_box() -> None:
    config = CONTRASTIVE.replace(denoising_box_noise=0.4)  # corners of no box change places
    made = noisy(config, [5])
    positive, negative = (
        corner_shifts(made, which) for which in (made.positive, made.used & ~made.positive)
    )
    assert 0 <= positive.min() < 0.02
    assert 0.38 < positive.max() < 0.4 + 1e-5
    assert 0.4 - 1e-5 < negative.min() < 0.42
    assert 0.78 < negative.max() < 0.8 + 1e-5


def test_contrastive_boxes_are_boxes_within_the_image() -> None:
    made = noisy(CONTRASTIVE.replace(denoising_box_noise=3.0), [7])
    corners = to_corners(made.noisy_boxes)
    assert (made.noisy_boxes[..., 2:] >= 0).all()
    assert corners.min() > -1e-6
    assert corners.max() < 1 + 1e-6


@pytest.mark.parametrize("config", [THESIS, CONTRASTIVE], ids=["thesis", "contrastive"])
def test_noise_follows_from_the_generator(config: HybridConfig) -> None:
    one, same, other = (noisy(config, [3], seed).noisy_boxes for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("config", [THESIS, CONTRASTIVE], ids=["thesis", "contrastive"])
def test_without_objects_there_is_nothing_to_denoise(config: HybridConfig) -> None:
    empty = [torch.zeros(0, dtype=torch.long)] * 2
    assert add_noise(empty, [torch.zeros(0, 4)] * 2, config) is None


def test_boxes_are_encoded_by_sines_and_cosines() -> None:
    module = Denoising(SMALL.replace(denoising="thesis"))
    encoded = module._encoded(torch.tensor([[[0.1, 0.2, 0.3, 0.4]]]))[0, 0]
    expected = []
    for v in (0.1, 0.2, 0.3, 0.4):
        phases = [2 * math.pi * v * 10_000 ** (-k / 4) for k in range(4)]
        expected += [math.sin(x) for x in phases] + [math.cos(x) for x in phases]
    assert encoded.tolist() == pytest.approx(expected, abs=1e-6)


def test_queries_are_made_as_the_thesis_makes_them() -> None:
    module = Denoising(SMALL.replace(denoising="thesis"))
    made = noisy(SMALL.replace(denoising="thesis"), [2])
    rows = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    queries = module(made, rows)
    box = module.box(module._encoded(made.noisy_boxes))
    content = module.labels[made.noisy_labels] + 0.5 * box  # sigmoid of a zero
    torch.testing.assert_close(queries.content, content)
    assert torch.equal(queries.position, rows[None, :20])
    assert torch.equal(queries.reference, made.noisy_boxes[..., :2])


def test_the_thesis_blocks_between_denoising_and_the_rest_only() -> None:
    config = THESIS.replace(denoising_queries=10)
    made = noisy(config, [1])
    attention_mask = Denoising(config).attention_mask(made, 3)[0, 0]
    expected = torch.ones(13, 13, dtype=torch.bool)
    expected[:10, :10] = expected[10:, 10:] = False
    assert torch.equal(attention_mask, expected)


def test_contrastive_groups_see_themselves_and_the_rest_but_no_padding() -> None:
    config = CONTRASTIVE.replace(denoising_groups=2)
    made = noisy(config, [1, 2])
    attention_mask = Denoising(config).attention_mask(made, 2)[:, 0]
    assert attention_mask.shape == (2, 10, 10)
    # Of the first image: positive, padding, negative, padding; twice; two other queries.
    x, o = True, False
    first = [o, x, o, x, x, x, x, x, o, o]
    second = [x, x, x, x, o, x, o, x, o, o]
    other = [x, x, x, x, x, x, x, x, o, o]
    assert attention_mask[0].tolist() == [first] * 4 + [second] * 4 + [other] * 2
    assert attention_mask[1, 0].tolist() == [o, o, o, o, x, x, x, x, o, o]


def detector(scheme: str) -> HybridDetector:
    return HybridDetector(SMALL.replace(denoising=scheme), seed=3)


IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


def objects(count: int) -> Objects:
    return {
        "boxes": torch.linspace(0.2, 0.6, 4 * count).reshape(count, 4),
        "labels": torch.arange(count) % 3,
    }


@pytest.mark.parametrize("scheme", ["thesis", "contrastive"])
def test_other_queries_do_not_notice_denoising(scheme: str) -> None:
    model = detector(scheme).train()
    one = model(IMAGES, [objects(2), objects(0)], torch.Generator().manual_seed(0))
    other = model(IMAGES, [objects(1), objects(3)], torch.Generator().manual_seed(1))
    without = model(IMAGES, [objects(0), objects(0)])
    assert "denoising" not in without
    for name in ("logits", "boxes", "references"):
        torch.testing.assert_close(one[name], other[name])
        torch.testing.assert_close(one[name], without[name])


def test_an_images_contrastive_queries_do_not_depend_on_other_images() -> None:
    """The number of groups does, and with it the noise: so noise is off here."""
    config = SMALL.replace(
        denoising="contrastive", denoising_box_noise=0.0, denoising_label_noise=0.0
    )
    model = HybridDetector(config, seed=3).train()
    alone = model(IMAGES[:1], [objects(2)])["denoising"][-1][1][0, :2]
    beside = model(IMAGES, [objects(2), objects(5)])["denoising"][-1][1][0, :2]
    torch.testing.assert_close(alone, beside)


@pytest.mark.parametrize(("layers", "count"), [("last", 1), ("all", 3)])
def test_denoising_is_compared_after_the_layers_that_are_set(layers: str, count: int) -> None:
    config = SMALL.replace(denoising="contrastive", denoising_layers=layers)
    out = HybridDetector(config).train()(IMAGES, [objects(1), objects(2)])
    assert len(out["denoising"]) == count
    logits, boxes = out["denoising"][-1]
    assert logits.shape == (2, len(out["denoised"].group), 4)
    assert boxes.shape == (2, len(out["denoised"].group), 4)


def test_evaluation_has_no_denoising_and_training_cannot_do_without_objects() -> None:
    model = detector("thesis")
    assert "denoising" not in model.eval()(IMAGES, [objects(1), objects(1)])
    with pytest.raises(ValueError, match="training with denoising needs targets"):
        model.train()(IMAGES)
