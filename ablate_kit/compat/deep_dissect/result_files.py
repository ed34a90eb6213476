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
    contents = {
        "bbox_regression_gt_pred_average_giou_overall": {
            "average_giou": _number(overall["giou_published"])
        },
        "bbox_regression_gt_pred_average_giou_per_class": {
            name: row["giou_published"]
            for name, row in classes.items()
            if row["giou_published"] is not None
        },
        "f1_score_classification_overall": {
            "Overall_F1_Score": _number(overall["f1_matched_pairs"])
        },
        "f1_score_classification_per_class": {
            name: row["f1_matched_pairs"]
            for name, row in classes.items()
            if row["f1_matched_pairs"] is not None
        },
    }
    for name, content in contents.items():  # at the end it counts repeats of an ablation
        yield f"{name}_result_0.json", json.dumps(content)


def write_result_files(place: Path, results: Sequence[Result]) -> None:
    """A folder per variant."""
    for i, one in enumerate(results):
        folder = place / numbered(i, one.name)
        folder.mkdir(parents=True)
        for name, text in result_files(one.evaluation):
            (folder / name).write_text(text, encoding="utf-8")


def _number(value: float | None) -> float:
    return 0.0 if value is None else value
