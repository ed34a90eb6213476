"""What detections are held against: annotation files, read as training and evaluation read them."""

from pathlib import Path
from typing import cast

from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages, stems
from ablate_kit.metrics.detections import GroundTruth
from detector.data.formats.fields import Difficult
from detector.data.formats.instances import read_instances


def read_annotations(path: Path, difficult: str = "ignore") -> AnnotatedImages:
    """A COCO annotation file, plain or gzipped; categories by ascending id.

    Images need neither a size nor a file name here.

    Args:
        difficult: what becomes of annotations that are marked as ``difficult``: ``ignore`` makes
            them regions that are neither to be found nor counted against a detection, ``keep``
            ordinary objects, ``drop`` leaves them out.

    Raises:
        UserError: not such a file; it is named.
    """
    found = read_instances(path, cast("Difficult", difficult), with_files=False)
    truth = GroundTruth(
        image_ids=found.image_ids,
        widths=found.widths,
        heights=found.heights,
        image=found.image,
        boxes=found.corners,
        labels=found.labels,
        ignore=found.ignore,
        areas=found.areas,
        ids=found.ids,
        classes=found.classes,
        category_ids=found.category_ids,
        sizes=found.boxes[:, 2:],
    )
    return AnnotatedImages(truth, stems(found.file_names), found.notes, found.file_names)
