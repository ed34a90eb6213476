"""A data set written in COCO's form."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from ablate_kit.models.labels.truth import ground_truth
from detector.data.dataset import Dataset


def write_coco(
    folder: Path, dataset: Dataset, shown: Callable[[int], bool] = lambda _: True
) -> Path:
    """The file of annotations, beside the images; those that are not ``shown`` have none."""
    content = ground_truth(dataset).to_coco()
    for i, row in enumerate(content["images"]):
        row["file_name"] = dataset.annotations(i).file_name
        Image.fromarray(dataset.image(i)).save(folder / row["file_name"])
    kept = [row for row in content["annotations"] if shown(row["image_id"])]
    path = folder / "annotations.json"
    path.write_text(json.dumps(content | {"annotations": kept}))
    return path
