"""On which images a smaller model is judged, and by what."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.sweeps.finished_runs.images_of_run import images_of
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.scheduling.scheduler import Batches
from detector.data.dataset import Dataset, rest, subset


@dataclass(frozen=True)
class JudgedOn:
    """How a smaller model is compared with the original.

    Attributes:
        dataset: images that both are run on; None: there are none.
        truth: what detections are compared with; None: the annotations of the images.
        chose: whether these images chose what is taken out.
    """

    evaluation: EvaluationSettings
    dataset: Dataset | None = None
    truth: GroundTruth | None = None
    chose: bool = False

    @property
    def batches(self) -> Batches:
        return Batches(len(self._images), self.evaluation.batch_size)

    def seen_by(self, adapter: Adapter) -> Dataset:
        """The images, with the classes of a model where they have no labels."""
        return looked_at_for(self._images, adapter.classes)

    @property
    def _images(self) -> Dataset:
        if self.dataset is None:
            raise UserError("there are no images to judge a smaller model on")
        return self.dataset


def judged_beside(run: Path, evaluation: EvaluationSettings) -> JudgedOn:
    """What a run chose, on other images of its data, where there are enough, else on its own, whose
    clusters are those of then, whatever a file of clusters says now.

    Raises ``UserError`` where its images are gone or others.
    """
    ledger = Ledger.existing(run)
    own, truth = images_of(ledger), ledger.truth()
    if others := unseen_images(own, truth):
        return JudgedOn(without_clusters(evaluation), others)
    return JudgedOn(evaluation, own, truth, chose=True)


def without_clusters(evaluation: EvaluationSettings) -> EvaluationSettings:
    """For other images than a run's: what says which belong together is for those alone."""
    return evaluation.model_copy(update={"cluster": None})


def unseen_images(seen: Dataset, truth: GroundTruth) -> Dataset | None:
    """As many images of the data of a run as it has ``seen``, drawn from those that it has not.

    Those that are not here, or cannot be read, are passed over, for nobody has asked for them, and
    so are copies of the seen ones.

    None where there are fewer than half as many, and where images belong together, as those of one
    video: then others are of clusters that it has seen.
    """
    others = rest(seen)
    if truth.clusters is not None or 2 * len(others) < len(seen):
        return None
    known = {_digest(seen, index) for index in range(len(seen))}
    found: list[int] = []
    for index in np.random.default_rng(0).permutation(len(others)).tolist():
        if len(found) == len(seen):
            break
        try:
            others.image(index)
            digest = _digest(others, index)
        except UserError:
            continue
        if digest not in known:
            found.append(index)
    return subset(others, sorted(found)) if 2 * len(found) >= len(seen) else None


def _digest(dataset: Dataset, index: int) -> bytes:
    return hashlib.sha256(dataset.stored(index)).digest()
