"""Dumps of detections, as detectors and tools leave them behind, in; detections out."""

from ablate_kit.metrics.dumps.annotations import AnnotatedImages
from ablate_kit.metrics.dumps.read import read_dump

__all__ = ["AnnotatedImages", "read_dump"]
