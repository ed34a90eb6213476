"""A checkpoint of a hybrid detector, as training leaves it."""

from collections.abc import Sequence
from pathlib import Path

from detector.checkpoint import save_tensors, weights_metadata
from detector.network.model import HybridDetector


def save_hybrid(path: Path, model: HybridDetector, classes: Sequence[str]) -> None:
    metadata = weights_metadata(model.config.to_json(), classes)
    save_tensors(path, model.state_dict(), metadata)
