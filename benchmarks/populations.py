"""Populations of images with two detectors' detections, from which studies are sampled."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from chosen_images import take

from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.models.labels.annotations import read_annotations

Pair = tuple[Detections, Detections]


@dataclass(frozen=True)
class Population:
    name: str
    truth: GroundTruth
    pair: Pair
    renew: Callable[[Pair, int], Pair] = lambda pair, _: pair


def voc_test(shared: Path) -> tuple[GroundTruth, Pair]:
    """All 4,952 photographs of VOC2007's test set, and two published detectors."""
    folder = shared / "detections/voc2007_test"
    against = read_annotations(folder / "instances_voc2007_test.json.gz")
    a, b = (
        read_dump(folder / name, against)[0]
        for name in ("yolov2_a/coco_results.json.gz", "yolov2_b")
    )
    return against.truth, (a, b)


def populations(shared: Path) -> list[Population]:
    whole, pair = voc_test(shared)
    source = np.random.default_rng(5).permutation(len(whole.image_ids))[:500]
    truth, (a, b) = take(whole, pair, np.sort(source))
    voc = Population("voc", truth, (a, b))
    against = read_annotations(shared / "coco/annotations/instances_val2017.json")
    path = shared / "detections/deimv2_coco/detections_val2017_deimv2_atto_results.json"
    found, _ = read_dump(path, against)
    truth, (found, _) = take(against.truth, (found, found), np.unique(found.image))
    return [
        voc,
        Population("coco", truth, (found, shaken(found, 1))),
        Population(
            "null", truth, (found, found),
            lambda pair, seed: (shaken(pair[0], 2 * seed), shaken(pair[1], 2 * seed + 1)),
        ),
    ]  # fmt: skip


def shaken(found: Detections, seed: int) -> Detections:
    rng = np.random.default_rng([3, seed])
    boxes = found.boxes + rng.normal(0, 3, found.boxes.shape)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = np.clip(found.scores + rng.normal(0, 0.05, len(found)), 0, 1)
    return Detections(found.image, boxes, scores, found.labels)
