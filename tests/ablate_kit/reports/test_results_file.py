"""What other programs read: a document with a version, and rows without two columns of a name."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison, compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.changes import changes_records, classes_records
from ablate_kit.reports.results_file import Origin, Source, results_document, results_text, timeless
from ablate_kit.reports.results_schema import ResultsFile, schema
from tests.ablate_kit.made_up import truth_of

IMAGES = 40


@pytest.fixture(scope="module")
def compared() -> tuple[list[Result], Comparison]:
    """Half of the objects are missed by one variant, and a control misses none."""
    every, boxes = np.arange(IMAGES), np.tile([0.0, 0, 9, 9], (IMAGES, 1))
    truth = truth_of(every, boxes, every % 2, images=IMAGES, classes="ab", side=9)
    results = []
    for name, factors, share in (
        ("unmodified", {}, 1.0),
        ("cut", {"module": "m", "head": 1, "metric": "own"}, 0.5),
        ("control", {"control_of": "cut"}, 1.0),
    ):
        image = every[: int(share * IMAGES)]
        found = Detections(image, boxes[: len(image)], np.full(len(image), 0.9), image % 2)
        threshold = results[0].evaluation.thresholds.calibration if results else None
        one = Result.of(name, "heads", truth, found, threshold=threshold, fixed_threshold=0.5)
        results.append(Result(name, "heads", one.evaluation, name, one.load, factors))
    return results, compare(truth, results, Statistics(resamples=100, margin=0.02))


def test_the_document_is_as_the_schema_says(compared: tuple[list[Result], Comparison]) -> None:
    origin = Origin(
        "ablate eval", "hybrid", [Source("checkpoint", "a", "ab")], {"kind": "shapes", "limit": 3}
    )
    text = results_text(results_document(*compared, origin))
    read = ResultsFile.model_validate_json(text)
    assert (read.format_version, read.baseline) == (1, "unmodified")
    assert read.run.sources[0].sha256 == "ab"
    assert read.run.images == IMAGES
    assert read.run.versions["metrics"].isdecimal()
    assert "numpy" in read.run.versions
    assert read.statistics is not None
    assert read.statistics.margin == 0.02
    assert read.answer == "1 of 1 heads costs more than 0.02 AP; 0 are free"
    cut, control = (read.variants[name].changes for name in ("cut", "control"))
    assert cut is not None
    assert control is not None
    assert (cut["AP"].verdict, cut["AP"].margin) == ("costs", 0.02)
    assert (cut["AP50"].verdict, control["AP"].verdict) == (None, None)
    assert read.variants["unmodified"].changes is None
    alone = ResultsFile.model_validate_json(results_text(results_document(compared[0][:1])))
    assert (alone.statistics, alone.answer, alone.run.command) == (None, None, None)


def test_what_the_schema_does_not_name_is_refused(
    compared: tuple[list[Result], Comparison],
) -> None:
    document = results_document(*compared)
    for broken in (
        document | {"more": 1},
        document | {"format_version": 2},
        {key: value for key, value in document.items() if key != "run"},
    ):
        with pytest.raises(ValidationError):
            ResultsFile.model_validate_json(results_text(broken))


def test_the_schema_names_every_part() -> None:
    told = schema()
    assert told["properties"]["format"]["const"] == "ablate results"
    assert set(told["required"]) == set(told["properties"])
    parts = [told, *told["$defs"].values()]
    assert all(one["additionalProperties"] is False for one in parts)
    json.dumps(told)


def test_the_same_results_are_the_same_but_for_command_and_date(
    compared: tuple[list[Result], Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    one = results_text(results_document(*compared, Origin("ablate a")))
    assert '"date": "1970-01-02T00:00:00+00:00"' in one
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    other = results_text(results_document(*compared, Origin("ablate b")))
    assert one != other
    assert timeless(one.encode()) == timeless(other.encode())


def test_every_change_is_a_row_of_numbers(compared: tuple[list[Result], Comparison]) -> None:
    found = changes_records(*compared)
    assert len(set(found.header)) == len(found.header)
    rows = [dict(zip(found.header, row, strict=True)) for row in found.rows]
    assert [(row["variant"], row["metric"]) for row in rows][::4] == [
        ("cut", "AP"), ("control", "AP")
    ]  # fmt: skip
    assert (rows[0]["factor_metric"], rows[0]["head"], rows[0]["control"]) == ("own", 1, 0)
    assert rows[4]["control"] == 1
    words = {"variant", "kind", "metric", "verdict", "module", "factor_metric", "control_of"}
    for row in rows:
        assert all(
            value is None or isinstance(value, int | float)
            for name, value in row.items()
            if name not in words
        )
    of_classes = classes_records(*compared)
    assert [row[:2] for row in of_classes.rows] == [
        [variant, name] for variant in ("cut", "control") for name in "ab"
    ]
    assert changes_records(compared[0][:1], NOTHING).rows == []
