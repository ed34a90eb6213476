"""Dumps of detections, as detectors and tools leave them behind, in; detections out."""

from ablate_kit.metrics.dumps.annotations import Annotated
from ablate_kit.metrics.dumps.read import read_dump

__all__ = ["Annotated", "read_dump"]
