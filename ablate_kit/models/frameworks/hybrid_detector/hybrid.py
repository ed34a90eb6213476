"""The hybrid detector as a framework."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablate_kit.models.framework import Framework
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter, is_hybrid
from ablate_kit.models.frameworks.hybrid_detector.hybrid_knobs import HybridKnobs
from detector.data.dataset import Dataset

if TYPE_CHECKING:
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import HybridTraining


def _training(
    adapter: HybridAdapter, dataset: Dataset, options: Mapping[str, Any], device: str
) -> "HybridTraining":
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import (
        from_checkpoint,  # imports the trainer
    )

    return from_checkpoint(adapter, dataset, options, device)


FRAMEWORK = Framework(
    lambda checkpoint, request: HybridAdapter.open(checkpoint, request.device),
    recognizes=lambda checkpoint: checkpoint.folder is None and is_hybrid(checkpoint),
    training=_training,
    knobs=HybridKnobs,
)
