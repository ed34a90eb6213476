"""From predictions to detections."""

from dataclasses import dataclass

from torch import Tensor

from detector.boxes import to_corners
from detector.network.model import Predictions


@dataclass(frozen=True)
class Decoded:
    """Detections of one image, best first."""

    boxes: Tensor  # (k, 4) xyxy in [0, 1] of the square input
    scores: Tensor  # (k,)
    labels: Tensor  # (k,)


def decode(
    predictions: Predictions,
    *,
    confidence: float = 0.0,
    top_k: int = 100,
    background_gate: bool = True,
) -> list[Decoded]:
    """The ``top_k`` (query, class) pairs of each image whose score exceeds ``confidence``.

    The score is softmax p(class) * (1 - p(background)); without the gate it is p(class). There is
    no suppression: two classes of one query are two detections.
    """
    probabilities = predictions["logits"].softmax(-1)
    scores = probabilities[..., :-1]
    if background_gate:
        scores = scores * (1 - probabilities[..., -1:])
    boxes = to_corners(predictions["boxes"]).clamp(0, 1)
    classes = scores.shape[-1]
    best, index = scores.flatten(1).sort(descending=True, stable=True)
    best, index = best[:, :top_k], index[:, :top_k]
    boxes = boxes.gather(1, (index // classes)[..., None].expand(-1, -1, 4))
    keep = best > confidence
    return [
        Decoded(boxes[i][keep[i]], best[i][keep[i]], (index[i] % classes)[keep[i]])
        for i in range(len(best))
    ]
