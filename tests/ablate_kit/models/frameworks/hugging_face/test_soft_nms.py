"""Detections that overlap a better one of their class score less, as a naive loop has it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hugging_face.soft_nms import SoftNMS, soft_nms_of


def naive(
    boxes: list[list[float]], scores: list[float], labels: list[int], threshold: float, least: float
) -> dict[int, float]:
    """What is left, with its score: the best is taken, and lowers those that are not yet."""
    left = dict(enumerate(scores))
    found: dict[int, float] = {}
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        found[best] = left.pop(best)
        for i in list(left):
            share = overlap(boxes[i], boxes[best]) if labels[i] == labels[best] else 0
            if share >= threshold:
                left[i] *= 1 - share
            if left[i] < least:
                del left[i]
    return found


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    union = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)) - both
    return both / union if union else 0


def detections(count: int, seed: int) -> dict[str, Tensor]:
    """In a few places, so that many overlap; best first."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 3, (count, 2), generator=generator) * 7.0
    size = 20 + torch.randint(0, 3, (count, 2), generator=generator)
    return {
        "scores": torch.rand(count, generator=generator).sort(descending=True).values,
        "labels": torch.randint(0, 2, (count,), generator=generator),
        "boxes": torch.cat([low, low + size], 1),
        "queries": torch.arange(count),
    }


@given(st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([0.5, 0.8]), st.booleans())
@settings(deadline=None)
def test_as_a_naive_loop(count: int, seed: int, threshold: float, low: bool) -> None:
    result = detections(count, seed)
    if low:
        result["scores"] *= 0.05
    found = SoftNMS(1000, threshold, 0.02)(result, 100, 100)
    wanted = naive(
        *(result[name].tolist() for name in ("boxes", "scores", "labels")), threshold, 0.02
    )
    assert dict(zip(found["queries"].tolist(), found["scores"].tolist(), strict=True)) == (
        pytest.approx(wanted, rel=1e-5)
    )
    assert torch.equal(found["boxes"], result["boxes"][found["queries"]])


def test_it_begins_with_the_best_and_boxes_end_at_the_border() -> None:
    result = detections(9, 0)
    result["boxes"] -= 5
    given = result["boxes"].clone()
    found = SoftNMS(4, 1.0, 0.0)(result, 18, 24)
    assert found["queries"].tolist() == [0, 1, 2, 3]
    assert found["boxes"].min() == 0
    assert found["boxes"][:, 2].max() <= 24
    assert found["boxes"][:, 3].max() <= 18
    assert torch.equal(result["boxes"], given)  # which are the caller's


def test_scores_lead_back_to_what_they_are_made_of() -> None:
    """As an estimate by gradients needs them to."""
    result = detections(5, 1)
    result["scores"].requires_grad_()
    found = SoftNMS(5, 0.5, 0.0)(result, 100, 100)
    found["scores"].sum().backward()
    assert torch.allclose(result["scores"].grad * result["scores"].detach(), found["scores"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iou_threshold", "0.8"),
        ("iou_threshold", 2),
        ("min_score", None),
        ("candidates", 0),
        ("candidates", 5001),
        ("candidates", True),
    ],
)
def test_settings_that_are_none_are_refused(name: str, value: Any) -> None:
    told = {"soft_nms_iou_threshold": 0.8, "soft_nms_candidates": 9, "soft_nms_min_score": 0.1}
    assert soft_nms_of(SimpleNamespace(**told)) == SoftNMS(9, 0.8, 0.1)
    assert soft_nms_of(SimpleNamespace()) is None
    with pytest.raises(UserError, match=f"^config.json: soft_nms_{name} is {value!r}; expected a "):
        soft_nms_of(SimpleNamespace(**{**told, f"soft_nms_{name}": value}))
