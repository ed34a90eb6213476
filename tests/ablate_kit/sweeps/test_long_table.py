"""One long table: its numbers are those of the run, and those of images add up to them."""

from pathlib import Path

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.sweeps.long_table import long_table
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from tests.ablate_kit.made_up import detections_of, truth_of

IMAGES = 6


def truth() -> GroundTruth:
    """Up to two objects an image, none on the last."""
    places = [(i, 20 * j) for i in range(IMAGES - 1) for j in range(2 - i % 2)]
    image, boxes = [i for i, _ in places], [[x, 0, x + 10, 10] for _, x in places]
    ids = 10 * np.arange(1, IMAGES + 1)
    return truth_of(image, boxes, np.zeros(len(image)), images=IMAGES, image_ids=ids)


def found(seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    rows = [
        {"image_id": 10 * i, "category_id": 1, "score": float(rng.random()),
         "bbox": [20 * j + float(rng.integers(0, 9)), 0, 10, 10]}
        for i in range(1, IMAGES + 1) for j in range(3)
    ]  # fmt: skip
    return detections_of(rows, truth())


FACTORS: list[dict[str, str | int | float]] = [
    {"module": "x-head3", "head": 0, "percent": 10},
    {"module": "y", "head": 1, "percent": 2.5},
    {"control_of": "cut0", "draw": 0},
]


def run(folder: Path, factors: list[dict[str, str | int | float]]) -> Ledger:
    cuts = [
        Ablation(f"cut{i}", "any", (Edit("w", value=float(i)),), factors=told)
        for i, told in enumerate(factors)
    ]
    made = Ledger(folder, {"checkpoint": "ab"})
    made.begin(truth())
    threshold = evaluate(truth(), found(0)).thresholds.calibration
    assert len(set(threshold.folds)) > 1  # images count from scores of their own
    for seed, one in enumerate([UNMODIFIED, *map(Variant.of, cuts)]):
        made.finish(one, evaluate(truth(), found(seed), score_threshold=threshold), found(seed))
    made.close(cuts, Statistics(10), {"kind": "shapes"})
    return made


def test_the_table_has_every_number_and_factor(tmp_path: Path) -> None:
    ledger = run(tmp_path / "run", FACTORS)
    table = long_table(ledger)
    assert list(table.columns) == [
        "variant", "kind", "control", "module", "head", "percent", "control_of", "draw",
        "image_id", "metric", "value",
    ]  # fmt: skip
    assert table["head"].dtype == table["image_id"].dtype == "Int64"
    assert table["percent"].dtype == table["value"].dtype == float
    assert set(table[table["control"]]["variant"]) == {"cut2"}
    assert set(table[table["head"] == 1]["module"]) == {"y"}
    whole = table[table["image_id"].isna()]
    images = table[table["image_id"].notna()]
    assert set(images["image_id"]) == {10 * i for i in range(1, IMAGES + 1)}
    for one in ledger.results():
        numbers = whole[whole["variant"] == one.name].set_index("metric")["value"]
        for key, value in one.evaluation.overall.items():
            assert numbers[key] == value if value is not None else np.isnan(numbers[key])
        own = images[images["variant"] == one.name].pivot(
            index="image_id", columns="metric", values="value"
        )
        tp, fp, fn = (own[name] for name in ("tp", "fp", "fn"))
        f1 = 2 * tp.sum() / (2 * tp + fp + fn).sum()
        assert f1 == pytest.approx(one.evaluation.overall["f1_calibrated"], abs=1e-12)
        objects = tp + fn
        giou = (own["giou_penalized"].fillna(0) * objects).sum() / objects.sum()
        assert giou == pytest.approx(one.evaluation.overall["giou_penalized"], abs=1e-12)
        assert np.isnan(own["giou_penalized"][10 * IMAGES])
    short = long_table(ledger, images=False)
    np.testing.assert_array_equal(short["value"], whole["value"])


def test_a_factor_is_text_where_values_are_mixed(tmp_path: Path) -> None:
    table = long_table(run(tmp_path / "run", [{"layer": 3}, {"layer": "0-2"}]), images=False)
    assert set(table["layer"].dropna()) == {"3", "0-2"}


def test_a_factor_named_like_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='the factor "metric" has the name of a column'):
        long_table(run(tmp_path / "run", [{"metric": "AP"}]))
