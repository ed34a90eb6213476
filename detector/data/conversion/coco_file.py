"""COCO's JSON of a data set."""

import json

from detector.data.conversion.dataset_files import DatasetFiles


def write(files: DatasetFiles) -> None:
    """``instances.json``, beside the images."""
    rows = []
    for one in files.images:
        exact = one.boxes[:, :2] + (one.boxes[:, 2:] - one.boxes[:, :2]) == one.boxes[:, 2:]
        files.lost["boxes are rounded in their last bit: COCO keeps sizes, not corners"] += int(
            (~exact.all(axis=1)).sum()
        )
        files.lost[
            "objects to ignore (difficult ones, crowds) are marked as iscrowd, which every reader "
            "of COCO passes over"
        ] += int(one.ignore.sum())
        for box, label, ignore, area, key in zip(
            one.boxes.tolist(), one.labels, one.ignore, one.areas, one.ids, strict=True
        ):
            left, top, right, bottom = box
            rows.append(
                {
                    "id": int(key),
                    "image_id": one.image_id,
                    "category_id": files.dataset.category_ids[label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    document = {
        "images": [
            {"id": one.image_id, "file_name": name, "width": one.width, "height": one.height}
            for one, name in files
        ],
        "annotations": rows,
        "categories": [
            {"id": key, "name": name}
            for key, name in zip(files.dataset.category_ids, files.dataset.classes, strict=True)
        ],
    }
    (files.place / "instances.json").write_text(json.dumps(document), encoding="utf-8")
