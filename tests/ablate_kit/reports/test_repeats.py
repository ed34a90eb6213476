"""Repeats are read together, and ablations against random cuts of their size."""

import csv

import numpy as np
import pytest

from ablate_kit.metrics.bootstrap import METRICS
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.evaluate import Evaluation, Thresholds
from ablate_kit.metrics.repeats import combined
from ablate_kit.metrics.result import Result
from ablate_kit.reports import repeats

NAMES = {
    "units-10pct-r0": "units",
    "units-10pct-r1": "units",
    "units-10pct-r0-null0": "null",
    "units-10pct-r0-null1": "null",
    "attn-head0": "heads",
    "attn-head0-null0": "null",
    "attn-head0-null1": "null",
    "attn-head0-null2": "null",
    "attn-head1": "heads",
    "attn-head1-null0": "null",
}


def result(name: str, kind: str) -> Result:
    empty = Evaluation({}, {}, Thresholds(0.5, 0.5, False), {})
    return Result(name, kind, empty, name, lambda: Detections.concatenate([]))


def test_rows_are_those_with_several_draws() -> None:
    results = [result("unmodified", "unmodified"), *(result(*one) for one in NAMES.items())]
    rng = np.random.default_rng(0)
    samples = [{key: rng.random(20) for key in METRICS} for _ in results]
    by_name = dict(zip(NAMES, samples[1:], strict=True))
    rows = repeats.repeats(results, samples[0], samples[1:])
    assert [(label, against) for label, against, _ in rows] == [
        ("units-10pct", "unmodified"),
        ("units-10pct-r0", "random cuts"),
        ("attn-head0", "random cuts"),
    ]
    expected = combined(
        [(by_name[f"attn-head0-null{i}"]["AP"], by_name["attn-head0"]["AP"]) for i in range(3)]
    )
    assert rows[2][2]["AP"] == expected
    table = repeats.table(rows)
    assert table.rows[2][:4] == ("attn-head0", "random cuts", "3", f"{expected.change:+.4f}")
    written = list(csv.DictReader(repeats.records(rows).csv().splitlines()))
    assert len(written) == 3 * len(METRICS)
    row = next(one for one in written if (one["variant"], one["metric"]) == ("attn-head0", "AP"))
    assert float(row["error"]) == pytest.approx(expected.error, abs=0)


def test_without_draws_there_are_no_rows() -> None:
    results = [result("unmodified", "unmodified"), result("attn-head0", "heads")]
    samples = {key: np.zeros(5) for key in METRICS}
    assert repeats.repeats(results, samples, [samples]) == []
