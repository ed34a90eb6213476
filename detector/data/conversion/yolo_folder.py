"""YOLO's labels of a data set."""

from pathlib import Path

import numpy as np

from detector.data.conversion.dataset_files import DatasetFiles
from detector.yaml_values import write_yaml

_SHARE = 2.0  # of the image's side: what is beyond no reader of YOLO's labels takes for a share


def write(files: DatasetFiles) -> None:
    """``data.yaml`` and a file of labels for each image."""
    labels = files.place / "labels" / files.split
    labels.mkdir(parents=True)
    files.count_ids()
    for one, name in files:
        files.count_areas(one)
        size = np.array([one.width, one.height], dtype=np.float64)
        low, high = one.boxes[:, :2], one.boxes[:, 2:]
        shares = np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)
        far = (np.abs(shares) > _SHARE).any(axis=1)
        files.lost[
            "regions to ignore (crowds, difficult objects) are left out, as YOLO marks none; "
            "--difficult keep writes difficult ones as objects"
        ] += int(one.ignore.sum())
        files.lost["boxes that lie far outside their image are left out"] += int(
            (far & ~one.ignore).sum()
        )
        rows = [
            f"{label} {' '.join(map(repr, values))}\n"
            for label, values, out in zip(
                one.labels.tolist(), shares.tolist(), far | one.ignore, strict=True
            )
            if not out
        ]
        path = labels / f"{Path(name).stem}.txt"
        path.write_text("".join(rows), encoding="utf-8")
    values = {files.split: f"images/{files.split}", "names": dict(enumerate(files.dataset.classes))}
    (files.place / "data.yaml").write_text(write_yaml(values), encoding="utf-8")
