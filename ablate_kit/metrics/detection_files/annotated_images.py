"""What dumps are scored against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ablate_kit.metrics.detection_files.image_names import ImageNames
from ablate_kit.metrics.detections import GroundTruth


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """A ground truth, and the files that its images are in.

    Attributes:
        truth: the annotated boxes.
        files: file names of the images; "" where there is none.
        notes: what their reader has to say of them.
    """

    truth: GroundTruth
    files: Sequence[str]
    notes: tuple[str, ...] = ()

    @cached_property
    def names(self) -> ImageNames:
        """By which text dumps know the images: from file names to indices into
        ``truth.image_ids``."""
        return ImageNames.of(self.files)
