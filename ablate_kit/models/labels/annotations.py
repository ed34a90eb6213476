"""What detections are compared with: annotation files, read as training and evaluation do."""

from pathlib import Path
from typing import cast

from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.models.labels.truth import ground_truth
from detector.data.dataset import Dataset, notes_on
from detector.data.formats.fields import Difficult
from detector.data.formats.instances import read_instances


def annotated_images(dataset: Dataset) -> AnnotatedImages:
    """The annotations of a data set, as files of detections are compared with them."""
    files = [dataset.annotations(index).file_name for index in range(len(dataset))]
    return AnnotatedImages(ground_truth(dataset), files, notes_on(dataset))


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
    return AnnotatedImages(truth, found.file_names, found.notes)
