"""What dumps are scored against."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.metrics.detection_files.image_names import ImageNames
from ablate_kit.metrics.detections import GroundTruth


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """A ground truth, and the names that text dumps know its images by.

    Attributes:
        truth: the annotated boxes.
        names: from file names to indices into ``truth.image_ids``.
        notes: what their reader has to say of them.
        files: file names of the images; "" where there is none.
    """

    truth: GroundTruth
    names: ImageNames
    notes: tuple[str, ...] = ()
    files: Sequence[str] = ()


def stems(files: Sequence[str]) -> ImageNames:
    """Where the images of these file names are."""
    return ImageNames.of(files)
