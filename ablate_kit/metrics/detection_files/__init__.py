"""Dumps of detections, as detectors and tools leave them behind, in; detections out."""

from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.read_detections import read_dump

__all__ = ["AnnotatedImages", "read_dump"]
