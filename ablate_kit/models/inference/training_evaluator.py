"""The hybrid detector in training, evaluated on images."""

from collections.abc import Sequence

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.inference.detect import detect_all
from ablate_kit.models.labels.truth import ground_truth
from detector.data.dataset import Dataset
from detector.network.model import HybridDetector
from detector.training.detection_task import Evaluate


def evaluator(dataset: Dataset, classes: Sequence[str], device: str) -> Evaluate:
    """What a trainer asks after an epoch: mAP on the data set.

    ``classes`` are those that the model learns, in their order: the data set may have others.
    """
    truth = ground_truth(dataset)

    def evaluate(model: HybridDetector) -> dict[str, float]:
        adapter = HybridAdapter(model, tuple(classes), {}, device)
        numbers = average_precision(truth, detect_all(adapter, dataset)).overall
        return {"mAP_50_95": numbers["AP"], "mAP_50": numbers["AP50"]}

    return evaluate
