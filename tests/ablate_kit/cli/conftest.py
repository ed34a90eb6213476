"""A small data set to run commands on."""

import json
from pathlib import Path

import pytest

from detector.data.shapes import Shapes


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three shapes images as a COCO data set."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("coco")
    shapes = Shapes(3, seed=5, size=96)
    images, annotations = [], []
    for i in range(3):
        one = shapes.annotations(i)
        Image.fromarray(shapes.image(i)).save(folder / one.file_name)
        images.append({"id": i, "file_name": one.file_name, "width": 96, "height": 96})
        for box, label, area, number in zip(one.boxes, one.labels, one.areas, one.ids, strict=True):
            x0, y0, x1, y1 = box.tolist()
            annotations.append(
                {"id": int(number), "image_id": i, "category_id": int(label) + 1, "iscrowd": 0,
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(area)}
            )  # fmt: skip
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(shapes.classes)]
    path = folder / "annotations.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path, folder
