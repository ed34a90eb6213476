"""The options that say how changes are tested, and how much of a table is printed."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ablate_kit.metrics.uncertainty.multiplicity import Adjust
    from ablate_kit.metrics.uncertainty.statistics import Statistics
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

Margin = Annotated[
    float | None,
    typer.Option(help="A change of AP below it counts as free; 0.01 by default.", min=0, max=1),
]
Adjusted = Annotated[
    str | None,
    typer.Option(
        "--adjust",
        help="For several variants: family (no false star, 95 % of the time; default), or fdr "
        "(few of the stars are false), for exploring.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Images that belong together, such as frames of a video: a regular expression on file "
        "names with a group that names the video, or a CSV file with the columns file,cluster."
    ),
]
MaxDetections = Annotated[
    int,
    typer.Option(help="Of a class that count in an image, and of an image that are kept.", min=11),
]
OWN_SCORE = "Without labels, from which boxes of the detector as it is stand for objects"
Top = Annotated[
    int | None,
    typer.Option(help="Print only N rows: what costs most, or of detectors the best.", min=1),
]


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions:
    """How changes are tested."""

    resamples: Annotated[
        int, typer.Option(help="Of the bootstrap that gives the intervals; 0: none.", min=0)
    ] = 2000
    margin: Margin = None
    adjust: Adjusted = None
    cluster: Cluster = None

    def statistics(self) -> "Statistics":
        """The same, with what is usual where nothing is given."""
        return statistics(self.margin, self.adjust, None, self.resamples, self.cluster)

    def evaluation(
        self, batch_size: int, score_threshold: float, max_detections: int
    ) -> "EvaluationSettings":
        """How the detectors that are compared are evaluated."""
        from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

        return EvaluationSettings(
            batch_size=batch_size,
            score_threshold=score_threshold,
            max_detections=max_detections,
            cluster=self.cluster,
        )


def statistics(
    margin: float | None,
    adjust: str | None,
    given: "Statistics | None" = None,
    resamples: int | None = None,
    cluster: str | None = None,
) -> "Statistics":
    """What the options say, and the rest as ``given``, or by default."""
    from ablate_kit.metrics.uncertainty.statistics import DEFAULTS

    given = given or DEFAULTS
    return replace(
        given,
        resamples=given.resamples if resamples is None else resamples,
        margin=given.margin if margin is None else margin,
        adjust=_adjust(adjust) if adjust else given.adjust,
        cluster=cluster or given.cluster,
    )


def _adjust(given: str) -> "Adjust":
    from ablate_kit.metrics.uncertainty.multiplicity import ADJUST

    for one in ADJUST:
        if one == given:
            return one
    known = " or ".join(ADJUST)
    raise UserError(f'cannot adjust by "{given}"; expected {known}{did_you_mean(given, ADJUST)}')
