"""Deep Dissect's four result files, by its names and in its form."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablate_kit.file_names import numbered
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.result import Result


def result_files(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Name and text of each file that Deep Dissect would write for these detections."""
    overall, classes = evaluation.overall, evaluation.per_class
    for file, measure, key in (
        ("bbox_regression_gt_pred_average_giou", "average_giou", "giou_published"),
        ("f1_score_classification", "Overall_F1_Score", "f1_matched_pairs"),
    ):
        per_class = {name: row[key] for name, row in classes.items() if row[key] is not None}
        # The number at the end counts repeats of an ablation.
        yield f"{file}_overall_result_0.json", json.dumps({measure: overall[key] or 0.0})
        yield f"{file}_per_class_result_0.json", json.dumps(per_class)


def write_result_files(place: Path, results: Sequence[Result]) -> None:
    """A folder per variant."""
    for i, one in enumerate(results):
        folder = place / numbered(i, one.name)
        folder.mkdir(parents=True)
        for name, text in result_files(one.evaluation):
            (folder / name).write_text(text, encoding="utf-8")
