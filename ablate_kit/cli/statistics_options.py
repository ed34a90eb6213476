"""The options that say how changes are tested, and how much of a table is printed."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Option

from ablate_kit.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ablate_kit.metrics.uncertainty.multiplicity import Adjust
    from ablate_kit.metrics.uncertainty.statistics import Statistics
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

_PANEL = "Statistics"
Margin = Annotated[
    float | None,
    Option(
        help="Change of AP below which a part counts as free; by default as in the run or recipe, "
        "else 0.01.",
        min=0,
        max=1,
        rich_help_panel=_PANEL,
    ),
]
Adjusted = Annotated[
    str | None,
    Option(
        "--adjust",
        help="How stars and verdicts of several variants are adjusted: family (any false one in at "
        "most 5 % of runs), or fdr (on average at most 5 % of them false), for exploring; by "
        "default as in the run or recipe, else family.",
        rich_help_panel=_PANEL,
    ),
]
Cluster = Annotated[
    str | None,
    Option(
        help="Which images belong together, such as frames of a video: a regular expression on "
        "file names with a group that names the video, or a CSV file with columns file,cluster.",
        rich_help_panel=_PANEL,
    ),
]
MaxDetections = Annotated[
    int,
    Option(
        help="Detections of an image that are kept, and of a class in it that count.",
        min=11,
        rich_help_panel=_PANEL,
    ),
]
FIXED_SCORE = "Score from which detections count in the F1 at a fixed threshold"
OWN_SCORE = "Without labels: score from which the unmodified model's boxes stand for objects"
ScoreThreshold = Annotated[float, Option(help=f"{FIXED_SCORE}. {OWN_SCORE}.", min=0, max=1)]
Top = Annotated[
    int | None,
    Option(help="Print only N rows: those that cost most, or the best detectors.", min=1),
]


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions:
    """How changes are tested."""

    PANEL: ClassVar[str] = _PANEL

    resamples: Annotated[
        int | None,
        Option(
            help="Bootstrap resamples for the intervals, 2000 by default; 0: no intervals.", min=0
        ),
    ] = None
    margin: Margin = None
    adjust: Adjusted = None
    cluster: Cluster = None

    def check(self, compared: int, top: int | None, as_json: bool) -> None:
        """Raises ``UserError`` for what has no effect on so many detectors, or on JSON."""
        of_changes = {"--resamples": self.resamples or None, "--margin": self.margin}
        for option, given in {**of_changes, "--adjust": self.adjust, "--top": top}.items():
            if given is not None and compared < 2:
                raise UserError(f"{option} has no effect on one alone: nothing is compared")
        if top is not None and as_json:
            raise UserError("--top has no effect on --json, which holds all")

    def statistics(self) -> "Statistics":
        """The same, with what is usual where nothing is given."""
        for option, given in (("--margin", self.margin), ("--adjust", self.adjust)):
            if given is not None and self.resamples == 0:
                raise UserError(f"{option} has no effect on --resamples 0: there are no verdicts")
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
