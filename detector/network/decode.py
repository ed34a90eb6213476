"""From predictions to detections."""

from dataclasses import dataclass

from torch import Tensor

from detector.boxes import to_corners
from detector.fetch import fetched
from detector.network.model import Predictions


@dataclass(frozen=True)
class Decoded:
    """Detections of one image, best first; in this machine's memory."""

    boxes: Tensor  # (k, 4) xyxy in [0, 1] of the square input
    scores: Tensor  # (k,)
    labels: Tensor  # (k,)
    queries: Tensor  # (k,) which prediction each is


def decode(
    predictions: Predictions,
    *,
    top_k: int = 100,
    background_gate: bool = True,
    iou_gamma: float = 1.0,
) -> list[Decoded]:
    """The ``top_k`` (query, class) pairs of each image whose score is above 0.

    There is no suppression: two classes of one query are two detections.
    """
    scores = query_scores(predictions, background_gate=background_gate, iou_gamma=iou_gamma)
    boxes = to_corners(predictions["boxes"]).clamp(0, 1)
    classes = scores.shape[-1]
    best, index = scores.flatten(1).sort(descending=True, stable=True)
    best, index = best[:, :top_k], index[:, :top_k]
    queries, labels = index // classes, index % classes
    boxes = boxes.gather(1, queries[..., None].expand(-1, -1, 4))
    # To choose by a mask waits for the device, so that comes last.
    columns = fetched([boxes, best, labels, queries])
    return [
        Decoded(*(column[i][keep] for column in columns)) for i, keep in enumerate(columns[1] > 0)
    ]


def query_scores(
    predictions: Predictions, *, background_gate: bool = True, iou_gamma: float = 1.0
) -> Tensor:
    """(B, N, classes): softmax p(class) * (1 - p(background)) * IoU^gamma.

    Without the gate there is no middle factor, without an IoU head no last one.
    """
    probabilities = predictions["logits"].softmax(-1)
    scores = probabilities[..., :-1]
    if background_gate:
        scores = scores * (1 - probabilities[..., -1:])
    if "iou_logits" in predictions:
        scores = scores * predictions["iou_logits"].sigmoid()[..., None] ** iou_gamma
    return scores
