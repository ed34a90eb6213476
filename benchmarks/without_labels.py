"""Do numbers without labels order ablations as labels do? On a sweep of a labelled data set.

    ablate sweep recipes/sweep/without_labels.yaml -o RUN --set model.checkpoint=FOLDER ...
    python benchmarks/without_labels.py RUN [RUN ...] [--scores 0.3 0.5]

Prints Spearman's rank correlation, over all variants of each run, of the change of AP against the
labels with the change of AP against the unmodified model's own boxes, which is what a sweep of
``data: {kind: images}`` gives: the detections are the same, and here they are held against both.
95 % intervals: of 1,000 bootstrap resamples of the variants. ``|AP| > 0.01``: of those variants
alone whose AP moves by more than that with labels.

Labelled images are a sample, too, and say of small changes little that other images would repeat.
``at best``: the square root of the reliability of the changes with labels (Spearman-Brown's, of the
rank correlation between random halves of the images), which no other measure's correlation with
them exceeds, but for chance.
"""

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.stats import spearmanr

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.fidelity import fidelity
from ablate_kit.models.labels.own_objects import own_objects
from ablate_kit.sweeps.run_folder.ledger import Ledger

SMALL = 0.01  # of AP

Columns = TypeVar("Columns", GroundTruth, Detections)


def without_objects(truth: GroundTruth) -> GroundTruth:
    none = slice(0, 0)
    return replace(
        truth,
        image=truth.image[none],
        boxes=truth.boxes[none],
        labels=truth.labels[none],
        ignore=truth.ignore[none],
        areas=truth.areas[none],
        ids=truth.ids[none],
        sizes=None,
    )


def correlation(first: np.ndarray, second: np.ndarray) -> str:
    if len(first) < 3:
        return "-"
    draw = np.random.default_rng(0)
    drawn = [draw.integers(0, len(first), len(first)) for _ in range(1000)]
    low, high = np.nanquantile(
        [spearmanr(first[one], second[one]).statistic for one in drawn], (0.025, 0.975)
    )
    return f"{spearmanr(first, second).statistic:.3f} ({low:.3f} to {high:.3f})"


def at_best(truth: GroundTruth, found: Sequence[Detections]) -> float:
    draw, images = np.random.default_rng(0), len(truth.image_ids)
    alike = []
    for _ in range(10):
        first = draw.permutation(images) < images // 2
        halves = []
        for chosen in (first, ~first):
            seen = of_images(truth, chosen)
            ap = [average_precision(seen, of_images(one, chosen)).overall["AP"] for one in found]
            halves.append(np.array(ap[1:]) - ap[0])
        alike.append(spearmanr(*halves).statistic)
    half = float(np.mean(alike))
    return float(np.sqrt(2 * half / (1 + half))) if half > 0 else 0.0


def of_images(one: Columns, chosen: np.ndarray) -> Columns:
    """What lies on these images, of all."""
    held = chosen[one.image]
    columns = {field.name: getattr(one, field.name) for field in fields(one)}
    per_row = {
        name: column[held]
        for name, column in columns.items()
        if isinstance(column, np.ndarray) and len(column) == len(held)
    }
    return replace(one, **per_row)


def compare(folder: Path, scores: list[float]) -> None:
    ledger = Ledger.existing(folder)
    truth, results = ledger.truth(), ledger.results()
    found = {one.key: one.detections for one in results}  # each ablation once
    ap = {key: average_precision(truth, one).overall["AP"] for key, one in found.items()}
    with_labels = np.array([*ap.values()][1:]) - next(iter(ap.values()))
    large = np.abs(with_labels) > SMALL
    print(
        f"{folder}: {len(with_labels)} variants on {len(truth.image_ids)} images; with labels the "
        f"unmodified model has AP {next(iter(ap.values())):.4f}, and {large.sum()} variants move "
        f"it by more than {SMALL:g}; at best {at_best(truth, list(found.values())):.3f}"
    )
    print(f"{'score':>5}  {'boxes':>6}  {'all variants':>22}  {'|AP| > 0.01':>22}  matched IoU")
    for score in scores:
        own = own_objects(without_objects(truth), found[results[0].key], score)
        numbers = np.array([average_precision(own, one).overall["AP"] for one in found.values()])
        assert numbers[0] == 1, "the unmodified model is at no distance from itself"
        overlap = np.array([fidelity(own, one)["matched_iou"] for one in found.values()])[1:]
        known = np.isfinite(overlap)
        print(
            f"{score:5g}  {len(own):6}  {correlation(numbers[1:] - 1, with_labels):>22}  "
            f"{correlation(numbers[1:][large] - 1, with_labels[large]):>22}  "
            f"{correlation(overlap[known], with_labels[known])}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished sweeps")
    parser.add_argument("--scores", nargs="+", type=float, default=[0.2, 0.3, 0.4, 0.5, 0.6])
    given = parser.parse_args()
    for run in given.runs:
        compare(run, given.scores)
