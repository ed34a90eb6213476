"""What a run of a study is trained and evaluated on."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.retraining.retrain_recipe import Run
from ablate_kit.sweeps.provenance.data_digest import data_digest
from detector.data.dataset import Dataset, check_scorable, is_of_files, limit
from detector.disk.lines import key_of


@dataclass(frozen=True)
class RunData:
    """The data of a recipe."""

    training: Dataset
    validation: Dataset
    truth: GroundTruth  # of the validation images
    digest: str  # of the annotations of both
    truth_digest: str  # of those of the validation images alone, with the names of classes
    images: str | None  # digest of the files of both; None where they are drawn

    @staticmethod
    def of(run: Run, read: dict[str, "RunData"]) -> "RunData":
        """What has been ``read`` already, by the recipe's section, is not read again."""
        key = run.recipe.data.model_dump_json()
        if key not in read:
            training, validation = run.recipe.data.datasets()
            check_scorable(validation)
            truth = ground_truth(validation)
            digest = _digest(ground_truth(training), truth)
            alone = key_of(_digest(truth), *truth.classes)
            read[key] = RunData(
                training, validation, truth, digest, alone, _stored(training, validation)
            )
        return read[key]


def digests_of(training: Dataset, validation: Dataset) -> dict[str, str]:
    """Of all images and annotations of a run, by what they are for.

    Of images that are drawn the first and their number tell the others.
    """
    return {
        name: key_of(str(len(one)), data_digest(one if is_of_files(one) else limit(one, 1)).text)
        for name, one in (("training", training), ("validation", validation))
    }


def _stored(*datasets: Dataset) -> str | None:
    files = [one for one in datasets if is_of_files(one)]
    return key_of(*(data_digest(one).text for one in files)) if files else None


def _digest(*truths: GroundTruth) -> str:
    content = hashlib.sha256()
    for one in truths:
        for column in (one.image_ids, one.image, one.boxes, one.labels, one.ignore):
            content.update(f"{len(column)} ".encode())
            content.update(np.ascontiguousarray(column).tobytes())
    return content.hexdigest()[:24]
