"""Repeats are read together, and ablations against random controls of their size."""

import csv

import numpy as np
import pytest

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples
from ablate_kit.metrics.uncertainty.repeats import combined
from ablate_kit.metrics.uncertainty.significance import within
from ablate_kit.reports.sweep_reports import repeats_table
from tests.ablate_kit.made_up import result_of

Factors = dict[str, str | int | float]
# Of which the names tell nothing, or something else.
VARIANTS: dict[str, Factors] = {
    "units 10, first": {"repeat_of": "units-10pct", "draw": 0},
    "units 10, second": {"repeat_of": "units-10pct", "draw": 1},
    "a": {"control_of": "units 10, first", "draw": 0},
    "b": {"control_of": "units 10, first", "draw": 1},
    "attn-head0": {"module": "attn", "head": 0},
    "attn-head0-control0": {"control_of": "attn-head0", "draw": 0},
    "attn-head0-control1": {"control_of": "attn-head0", "draw": 1},
    "attn-head0-control2": {"control_of": "attn-head0", "draw": 2},
    "foo-r0": {"module": "foo-r0"},
    "foo-r1": {"module": "foo-r1"},
    "foo-r1-null0": {"module": "foo-r1-null0"},
    "foo-r1-null1": {"module": "foo-r1-null1"},
    "only": {"repeat_of": "one", "draw": 0},
    "c": {"control_of": "what is not there", "draw": 0},
    "d": {"control_of": "what is not there", "draw": 1},
}


def random_samples(rng: np.random.Generator) -> Samples:
    made = {
        key: Sampled(rng.random(), rng.random(20), rng.random(10), 10, ratio=False) for key in KEYS
    }
    return Samples(made, ())


def test_rows_are_those_with_several_draws() -> None:
    results = [result_of("unmodified"), *(result_of(n, factors=f) for n, f in VARIANTS.items())]
    rng = np.random.default_rng(0)
    samples = [random_samples(rng) for _ in results]
    by_name = dict(zip(VARIANTS, samples[1:], strict=True))
    rows = repeats_table.repeats(results, samples[0], samples[1:])
    assert [(label, against) for label, against, _ in rows] == [
        ("units-10pct", "unmodified"),
        ("units 10, first", "random controls"),
        ("attn-head0", "random controls"),
    ]
    expected = combined(
        [
            (by_name[f"attn-head0-control{i}"].overall["AP"], by_name["attn-head0"].overall["AP"])
            for i in range(3)
        ]
    )
    assert rows[2][2]["AP"] == within(expected, "AP")
    assert expected.low is not None
    for _, _, by_metric in rows:  # of two draws of three the interval went beyond what AP can lose
        for key, one in by_metric.items():
            farthest = 2 if key == "giou_penalized" else 1
            assert -farthest <= one.low <= one.change <= one.high <= farthest
    table = repeats_table.table(rows, "images")
    assert "interval over images and draws" in table.title
    clustered = repeats_table.table(rows, "clusters")
    assert "interval over clusters and draws; errors of both: standard error by clusters" in (
        clustered.title
    )
    assert "by clusters" in clustered.header
    assert table.rows[2][:4] == ("attn-head0", "random controls", "3", f"{expected.change:+.4f}")
    written = list(csv.DictReader(repeats_table.records(rows).csv().splitlines()))
    assert len(written) == 3 * len(KEYS)
    row = next(one for one in written if (one["variant"], one["metric"]) == ("attn-head0", "AP"))
    assert float(row["error"]) == pytest.approx(expected.error, abs=0)


def test_without_labels_no_mean_of_repeats_is_above_the_unmodified_model() -> None:
    """Its interval over two draws reached above what is 1 by construction."""
    rng = np.random.default_rng(2)
    ones = Sampled(1.0, np.ones(20), np.ones(10), 10, ratio=False)
    own = Samples({**dict.fromkeys(KEYS, ones), "matched_iou": ones}, ())
    names = ("units 10, first", "units 10, second")
    results = [result_of("unmodified"), *(result_of(n, factors=VARIANTS[n]) for n in names)]
    ((_, _, found),) = repeats_table.repeats(results, own, [random_samples(rng) for _ in names])
    assert all(one.high == 0 for one in found.values())
    labelled = Samples(dict.fromkeys(KEYS, ones), ())
    rows = repeats_table.repeats(results, labelled, [random_samples(rng) for _ in names])
    assert any(one.high > 0 for one in rows[0][2].values())


def test_without_draws_there_are_no_rows() -> None:
    results = [result_of("unmodified"), result_of("attn-head0")]
    samples = random_samples(np.random.default_rng(0))
    assert repeats_table.repeats(results, samples, [samples]) == []
