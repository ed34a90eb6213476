"""How models are evaluated: one value, from a recipe or an option to the metrics."""

from typing import Annotated

from pydantic import Field

from ablate_kit.ablations.kinds.kind import Count, Natural
from ablate_kit.metrics.detections import FEWEST_DETECTIONS, MAX_DETECTIONS, GroundTruth
from ablate_kit.metrics.uncertainty.bootstrap import MOST_RESAMPLES, RESAMPLES
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import MARGIN
from ablate_kit.models.labels.truth import ground_truth
from detector.data.dataset import Dataset
from detector.training.recipes.recipe_file import Section


class EvaluationSettings(Section):
    batch_size: Count = 8
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    # Of a class that count in an image, and of an image that are kept.
    max_detections: Annotated[int, Field(ge=FEWEST_DETECTIONS)] = MAX_DETECTIONS
    resamples: Annotated[int, Field(ge=2, le=MOST_RESAMPLES)] = RESAMPLES
    seed: Natural = 0
    margin: Annotated[float, Field(ge=0, le=1)] = MARGIN  # a change of AP below it counts as free
    adjust: Adjust = "family"
    cluster: str | None = None  # images that belong together: a regular expression, or a file.csv
    fuse: bool = False  # variants that silence heads or channels share passes; not bit for bit

    @property
    def statistics(self) -> Statistics:
        return Statistics(self.resamples, self.seed, self.margin, self.adjust, self.cluster)

    def truth(self, dataset: Dataset) -> GroundTruth:
        """What detections in the images of a data set are compared with."""
        return ground_truth(dataset, self.max_detections, self.cluster)


USUAL = EvaluationSettings()
