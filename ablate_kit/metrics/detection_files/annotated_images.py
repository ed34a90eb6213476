"""What dumps are scored against."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ablate_kit.metrics.detection_files.image_names import ImageNames
from ablate_kit.metrics.detections import GroundTruth


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """A ground truth, and the files that its images are in."""

    truth: GroundTruth  # the annotated boxes
    files: Sequence[str]  # file names of the images; "" where there is none
    notes: tuple[str, ...] = ()  # what their reader has to say of them

    @cached_property
    def names(self) -> ImageNames:
        """By which text dumps know the images: from file names to indices into
        ``truth.image_ids``."""
        return ImageNames.of(self.files)
