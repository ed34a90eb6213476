"""A run as one long table: a row per variant, image and metric, beside what the variant is about.

table = long_table(Ledger.existing(Path("runs/heads")))
heads = table[(table["metric"] == "AP") & (table["kind"] == "heads")]
heads.pivot_table("value", "module", "head")
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.factor_columns import Factor, factor_columns
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.matching import Outcome, greedy_matches, hungarian_pairs
from ablate_kit.sweeps.run_folder.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

COLUMNS = ("variant", "kind", "control", "image_id", "metric", "value")


def long_table(ledger: Ledger, *, images: bool = True) -> "pd.DataFrame":
    """Every number of a finished run.

    Columns: variant, kind, whether it is a random control, a column per factor that any variant
    has, image_id, metric and value. Numbers of the whole data set have no image_id: those of
    ``Evaluation.overall``. Numbers of one image: those of ``of_images``, which ``images`` leaves
    out.

    Raises ``UserError`` where a factor has the name of another column.
    """
    import pandas as pd

    results = ledger.results()
    factors = factor_columns(results)
    for name in factors:
        if name in COLUMNS:
            raise UserError(f'the factor "{name}" has the name of a column of the table')
    truth = ledger.truth()
    parts = []
    for row, one in enumerate(results):
        overall = one.evaluation.overall
        values = [np.nan if value is None else value for value in overall.values()]
        parts.append(pd.DataFrame({"row": row, "metric": list(overall), "value": values}))
        seen = truth_of_first(truth, one.images)  # in a race, variants stop
        used = one.evaluation.thresholds.calibration
        found = of_images(seen, one.detections, used) if images else {}
        for metric, numbers in found.items():
            own = {"row": row, "image_id": seen.image_ids, "metric": metric, "value": numbers}
            parts.append(pd.DataFrame(own))
    long = pd.concat(parts, ignore_index=True)
    if not images:
        long["image_id"] = np.nan
    at = long["row"].to_numpy()
    columns: dict[str, pd.Series] = {
        "variant": pd.Series([one.name for one in results], dtype="category"),
        "kind": pd.Series([one.kind for one in results], dtype="category"),
        "control": pd.Series([one.is_control for one in results]),
        **{name: _column(values) for name, values in factors.items()},
    }
    placed = {name: one.take(at).reset_index(drop=True) for name, one in columns.items()}
    placed["image_id"] = long["image_id"].astype("Int64")
    placed["metric"] = long["metric"].astype("category")
    placed["value"] = long["value"].astype(float)
    return pd.DataFrame(placed)


def of_images(
    truth: GroundTruth, found: Detections, calibration: Calibration
) -> "dict[str, NDArray[np.float64]]":
    """Numbers of each image at its score threshold, from which those of all images follow.

    ``tp``, ``fp`` and ``fn``: objects found, detections of none and objects missed, as F1 counts
    them; ``giou_penalized``: mean over the image's objects, of which a missed one counts -1; NaN
    where there is none.
    """
    count = len(truth.image_ids)
    support = np.bincount(truth.image[~truth.ignore], minlength=count).astype(float)
    threshold = calibration.of_images(truth)[found.image]
    matches = greedy_matches(truth, found)
    kept = matches.scores >= threshold
    true, false = (
        np.bincount(found.image[kept & (matches.outcome == kind)], minlength=count).astype(float)
        for kind in (Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE)
    )
    pairs = hungarian_pairs(truth, found, threshold)
    gained = np.bincount(truth.image[pairs.truth], pairs.giou + 1, minlength=count) - support
    giou = np.divide(gained, support, out=np.full(count, np.nan), where=support > 0)
    return {"tp": true, "fp": false, "fn": support - true, "giou_penalized": giou}


def _column(values: Sequence[Factor | None]) -> "pd.Series":
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    dtype = "Int64" if kinds <= {int} else "float64" if kinds == {float} else "category"
    return pd.Series(values, dtype=dtype)
