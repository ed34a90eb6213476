"""What repeats of random ablations say together, and ablations against random cuts alike."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

from ablate_kit.metrics.bootstrap import LEVEL, METRICS, Floats, Samples, holm
from ablate_kit.metrics.repeats import Combined, combined
from ablate_kit.metrics.result import Result
from ablate_kit.reports.records import Records
from ablate_kit.reports.table import Table

_REPEAT = re.compile(r"(?P<label>.+)-r\d+")
_NULL = re.compile(r"(?P<label>.+)-null\d+")

Row = tuple[str, str, dict[str, Combined]]  # label, what it is held against, by metric


def repeats(results: Sequence[Result], baseline: Samples, samples: Sequence[Samples]) -> list[Row]:
    """One row per ablation drawn several times, against the unmodified model; and one per ablation
    with several random cuts of its size, against those.

    Args:
        results: the unmodified model's, then each variant's.
        baseline: of the unmodified model, as ``Bootstrap.samples`` gives them.
        samples: of each variant.
    """
    by_name = {one.name: found for one, found in zip(results[1:], samples, strict=True)}
    kinds = {one.name: one.kind for one in results[1:]}
    drawn, nulls = (
        _groups([name for name in by_name if (kinds[name] == "null") == is_null], pattern)
        for is_null, pattern in ((False, _REPEAT), (True, _NULL))
    )
    rows: list[Row] = []
    for label, names in drawn:
        pairs = [(baseline, by_name[name]) for name in names]
        rows.append((label, results[0].name, _by_metric(pairs)))
    for label, names in nulls:
        if label in by_name:
            pairs = [(by_name[name], by_name[label]) for name in names]
            rows.append((label, "random cuts", _by_metric(pairs)))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """AP of each row; a star where it is significant after Holm's adjustment over the rows."""
    adjusted = holm([found["AP"].p for _, _, found in rows])
    cells = tuple(
        (
            label,
            against,
            str(found["AP"].repeats),
            _number(found["AP"].change, "+.4f"),
            _number(_half(found["AP"]), ".4f") + ("*" if p is not None and p < 1 - LEVEL else " "),
            _number(found["AP"].error_images, ".4f"),
            _number(found["AP"].deviation_draws, ".4f"),
        )
        for (label, against, found), p in zip(rows, adjusted, strict=True)
    )
    title = (
        "means over draws; ±: half of the 95 % interval over images and draws; errors of both: "
        "standard error by images, standard deviation between draws; *: p < 0.05 after Holm's "
        f"adjustment for {len(rows)} rows"
    )
    header = ("ablation", "against", "draws", "Δ AP", "±", "by images", "between draws")
    return Table(title, header, cells, header[:2])


def records(rows: Sequence[Row]) -> Records:
    """Every metric at full precision."""
    header = ("variant", "against", "metric", *(field.name for field in fields(Combined)))
    return Records(
        header,
        [
            (label, against, key, *found[key].to_dict().values())
            for label, against, found in rows
            for key in METRICS
        ],
    )


def _groups(names: Sequence[str], pattern: re.Pattern[str]) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            found.setdefault(match["label"], []).append(name)
    return ((label, members) for label, members in found.items() if len(members) > 1)


def _by_metric(pairs: Sequence[tuple[Samples, Samples]]) -> dict[str, Combined]:
    def of(key: str) -> list[tuple[Floats, Floats]]:
        return [(before[key], after[key]) for before, after in pairs]

    return {key: combined(of(key)) for key in METRICS}


def _half(found: Combined) -> float | None:
    return None if found.low is None or found.high is None else (found.high - found.low) / 2


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
