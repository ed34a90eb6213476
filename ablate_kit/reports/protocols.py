"""Other ways to take the mean average precision, as tables and plain values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.voc_ap import voc_ap
from ablate_kit.registry import Registry
from ablate_kit.reports.table import Table, number

Told = tuple[Table, dict[str, dict[str, Any]]]
"""A table of all dumps, and its numbers by dump."""


def check_protocols(names: Sequence[str]) -> None:
    for name in names:
        if name not in PROTOCOLS:
            expected = " or ".join(PROTOCOLS)
            raise UserError(
                f'unknown protocol "{name}"; expected {expected}{did_you_mean(name, PROTOCOLS)}'
            )


def protocols(
    names: Sequence[str], ious: Sequence[float], truth: GroundTruth, found: Mapping[str, Detections]
) -> tuple[list[Table], dict[str, dict[str, Any]]]:
    """A table per protocol over all dumps, and the same numbers by dump and protocol."""
    tables: list[Table] = []
    numbers: dict[str, dict[str, Any]] = {name: {} for name in found}
    if ious:
        for name, one in found.items():
            numbers[name]["ap_at_iou"] = average_precision(truth, one, ious=ious).at_iou
        header = ("detections", *(f"AP@{iou:g}" for iou in sorted(set(ious))), "mean")
        rows = [
            (name, *(_text(value) for value in (*at.values(), np.mean(list(at.values())))))
            for name, at in ((name, numbers[name]["ap_at_iou"]) for name in found)
        ]
        tables.append(Table("AP at chosen IoU thresholds", header, tuple(rows), header[:1]))
    for protocol in PROTOCOLS:
        if protocol in names:
            table, told = PROTOCOLS[protocol](truth, found)
            tables.append(table)
            for name, values in told.items():
                numbers[name][protocol] = values
    return tables, numbers


def _voc(truth: GroundTruth, found: Mapping[str, Detections]) -> Told:
    results = {name: voc_ap(truth, one) for name, one in found.items()}
    numbers = {}
    for name, one in results.items():
        per_class = {
            label: {"AP07": float(one.ap07[i]), "AP": float(one.ap[i])}
            for i, label in enumerate(truth.classes)
            if one.support[i]
        }
        numbers[name] = {"mAP07": one.map07, "mAP": one.map, "per_class": per_class}
    header = ("class", *(f"{name} {kind}" for name in results for kind in ("AP07", "AP")))
    rows = [
        (label, *(_text(v) for one in results.values() for v in (one.ap07[i], one.ap[i])))
        for i, label in enumerate(truth.classes)
        if any(one.support[i] for one in results.values())
    ]
    means = ("mean", *(_text(v) for one in results.values() for v in (one.map07, one.map)))
    title = "PASCAL VOC: AP at IoU > 0.5, of 11 points (AP07) and of the whole area (AP)"
    return Table(title, header, (*rows, means), ("class",)), numbers


def _text(value: float) -> str:
    return number(None if np.isnan(value) else value)


PROTOCOLS: Registry[Callable[[GroundTruth, Mapping[str, Detections]], Told]] = Registry(
    "protocols", {"voc": _voc}
)
