"""The schema of ``results.json``: what ``ablate schema`` prints, and what files are checked by."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.verdict import Outcome
from ablate_kit.reports.results_file import FORMAT, FORMAT_VERSION

Number = float | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SourcePart(_Part):
    """A file or folder that was read."""

    role: str = Field(description="checkpoint, detections, annotations or recipe")
    path: str
    sha256: str | None = Field(
        description="of the file, or of what sha256sum prints of a folder's; null of a pipe"
    )


class RunPart(_Part):
    """What was run, on what."""

    command: str | None = Field(description="as it was given; null from Python")
    date: str = Field(description="when the run was begun, or the file written, in UTC, ISO 8601")
    versions: dict[str, str] = Field(
        description="of ablate_kit, its metrics, Python and the packages that were used"
    )
    model: str | None = Field(description="the framework that ran the network")
    sources: list[SourcePart]
    data: dict[str, Any] = Field(description="where the images are, with the keys of a recipe")
    images: int


class StatisticsPart(_Part):
    """What intervals, stars and verdicts are made with."""

    resamples: int
    seed: int
    margin: float = Field(description="a change of AP below it counts as free")
    adjust: Adjust = Field(description="family: max-T; fdr: Benjamini and Hochberg")
    cluster: str | None = Field(description="what images are drawn by, if not one by one")


class ChangePart(_Part):
    """A change of one metric against the baseline; null where it is not defined."""

    value: Number = Field(description="of the variant")
    change: Number
    low: Number = Field(description="lower end of the 95 % interval of the change")
    high: Number = Field(description="upper end")
    error: Number = Field(description="standard error of the change")
    p: Number = Field(description="two-sided, of no change")
    p_adjusted: Number = Field(description="for all variants that are tested; null of controls")
    detectable: Number = Field(
        description="the change that would get a star four times out of five"
    )
    verdict: Outcome | None = Field(description="on AP; null of other metrics and of controls")
    margin: Number
    p_verdict: Number = Field(description="adjusted")
    more_needed: int | None = Field(
        description="about how many more images (or clusters) would decide what is undecided"
    )


class ThresholdsPart(_Part):
    """Score thresholds."""

    fixed: float
    calibrated: float
    calibrated_here: bool
    folds: list[float]


class VariantPart(_Part):
    """Every number of one variant; docs/metrics.md says what they mean."""

    kind: str
    factors: dict[str, str | int | float]
    overall: dict[str, Number]
    per_class: dict[str, dict[str, Number]]
    thresholds: ThresholdsPart
    counts: dict[str, int]
    changes: dict[str, ChangePart] | None = Field(
        description="by metric; null of the baseline, and where nothing was resampled"
    )
    protocols: dict[str, Any] | None = Field(
        default=None, description="of ablate score --json, with --protocol or --iou"
    )


class ResultsFile(_Part):
    """results.json of ablate eval, score, sweep and demo."""

    format: Literal["ablate results"] = Field(description=f"always {FORMAT}")
    format_version: Literal[1] = Field(description=f"{FORMAT_VERSION}; raised when a part changes")
    run: RunPart
    statistics: StatisticsPart | None = Field(description="null where nothing was resampled")
    baseline: str = Field(description="name of the variant that others are compared with")
    answer: str | None = Field(description="what the verdicts come to, in one sentence")
    variants: dict[str, VariantPart]


def schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    found = ResultsFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
