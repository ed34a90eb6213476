"""Detections from predictions, worked out by hand."""

import math

import pytest
import torch

from detector.network.decode import decode, query_scores
from detector.network.model import Predictions

# Two queries, two classes and background: probabilities (0.6, 0.3, 0.1) and (0.2, 0.3, 0.5).
LOGITS = torch.tensor([[[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]]).log()
BOXES = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.9, 0.1, 0.4, 0.4]]])


def predictions(**more: torch.Tensor) -> Predictions:
    return Predictions(logits=LOGITS, boxes=BOXES, references=BOXES[..., :2], **more)


def test_scores_are_gated_by_background() -> None:
    expected = torch.tensor([[[0.6 * 0.9, 0.3 * 0.9], [0.2 * 0.5, 0.3 * 0.5]]])
    torch.testing.assert_close(query_scores(predictions()), expected)
    ungated = torch.tensor([[[0.6, 0.3], [0.2, 0.3]]])
    torch.testing.assert_close(query_scores(predictions(), background_gate=False), ungated)


def test_scores_are_weighed_by_the_predicted_iou() -> None:
    logits = torch.tensor([[0.0, math.log(4.0)]])  # IoU 0.5 and 0.8
    found = query_scores(predictions(iou_logits=logits), background_gate=False, iou_gamma=2.0)
    torch.testing.assert_close(
        found, torch.tensor([[[0.6 * 0.25, 0.3 * 0.25], [0.2 * 0.64, 0.3 * 0.64]]])
    )
    off = query_scores(predictions(iou_logits=logits), iou_gamma=0.0)
    torch.testing.assert_close(off, query_scores(predictions()))


def test_every_class_of_every_query_is_a_detection_best_first() -> None:
    (one,) = decode(predictions())
    assert one.labels.tolist() == [0, 1, 1, 0]
    assert one.scores.tolist() == pytest.approx([0.54, 0.27, 0.15, 0.10])
    # Corners, clipped to the image.
    expected = [[0.4, 0.3, 0.6, 0.7]] * 2 + [[0.7, 0.0, 1.0, 0.3]] * 2
    torch.testing.assert_close(one.boxes, torch.tensor(expected))


def test_number_is_a_limit() -> None:
    (one,) = decode(predictions(), top_k=2)
    assert one.scores.tolist() == pytest.approx([0.54, 0.27])
