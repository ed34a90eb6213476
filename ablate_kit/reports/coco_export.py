"""A run's detections and annotations in COCO's form, which most other tools read."""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.file_names import files_in
from ablate_kit.metrics.result import Result
from ablate_kit.sweeps.run_folder.ledger import Ledger
from detector.data.dataset import Dataset
from detector.disk.atomic import new_folder
from detector.errors import check_can_write

ANNOTATIONS = "annotations"


def export_coco(
    ledger: Ledger, results: Sequence[Result], folder: Path, dataset: Dataset | None
) -> list[Path]:
    """Writes ``annotations.json`` and a file of COCO results per variant; returns the paths.

    With the ``dataset``, images have their file names. Numbers are those of the run: scored again,
    the files give the same AP to the bit.
    """
    check_can_write(folder)
    truth = ledger.truth()
    names = [one.name for one in results]
    paths = files_in(folder, names, ".json", taken=[ANNOTATIONS])
    document = truth.to_coco()
    if dataset is not None:
        files = {
            each.image_id: each.file_name
            for each in (dataset.annotations(index) for index in range(len(dataset)))
        }
        for image in document["images"]:
            image["file_name"] = safe.line(files[image["id"]])
    with new_folder(folder) as place:
        (place / f"{ANNOTATIONS}.json").write_text(safe.to_json(document) + "\n", encoding="utf-8")
        for path, one in zip(paths, results, strict=True):
            rows = safe.to_json(one.detections.to_coco_results(truth))
            (place / path.name).write_text(rows + "\n", encoding="utf-8")
    return [folder / f"{ANNOTATIONS}.json", *paths]
