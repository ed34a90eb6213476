"""What repeats of random ablations say together, and ablations against random controls alike."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples
from ablate_kit.metrics.uncertainty.chance import LEVEL
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import Combined, combined
from ablate_kit.metrics.uncertainty.significance import most_of, within
from ablate_kit.plural import counted
from ablate_kit.reports.records import Records
from ablate_kit.reports.table import INTERVAL, Table, ends, number, stars

Row = tuple[str, str, dict[str, Combined]]  # label, what it is compared with, by metric


def repeats(results: Sequence[Result], baseline: Samples, samples: Sequence[Samples]) -> list[Row]:
    """One row per ablation drawn several times, against the unmodified model; and one per ablation
    with several random controls, against those.

    Args:
        results: the unmodified model's, then each variant's.
        baseline: of the unmodified model, as ``Bootstrap.samples`` gives them.
        samples: of each variant.
    """
    variants = list(zip(results[1:], samples, strict=True))
    by_name = {one.name: found for one, found in variants}
    rows: list[Row] = []
    for label, drawn in _groups(variants, "repeat_of"):
        pairs = [(baseline, found) for found in drawn]
        rows.append((label, results[0].name, _by_metric(pairs, baseline)))
    for name, controls in _groups(variants, "control_of"):
        if name in by_name:
            pairs = [(found, by_name[name]) for found in controls]
            rows.append((name, "random controls", _by_metric(pairs)))
    return rows


def table(rows: Sequence[Row], unit: str) -> Table:
    """AP of each row; a star where it is significant after Holm's adjustment over the rows.

    ``unit``: what is drawn for intervals.
    """
    adjusted = holm([found["AP"].p for _, _, found in rows])
    cells = tuple(
        (
            label,
            against,
            str(found["AP"].repeats),
            number(found["AP"].change, "+z.4f"),
            interval(found["AP"], p),
            number(found["AP"].error_images),
            number(found["AP"].deviation_draws),
        )
        for (label, against, found), p in zip(rows, adjusted, strict=True)
    )
    title = (
        f"means over draws; interval over {unit} and draws; errors of both: "
        f"standard error by {unit}, standard deviation between draws; {stars(cells)} after Holm's "
        f"adjustment for {counted(len(rows), 'row')}"
    )
    header = ("ablation", "against", "draws", "Δ AP", INTERVAL, f"by {unit}", "between draws")
    return Table(title, header, cells, header[:2])


def interval(found: Combined, p: float | None) -> str:
    """With a star where the adjusted ``p`` says so."""
    return ends(found.low, found.high, "*" if p is not None and p < 1 - LEVEL else " ")


def records(rows: Sequence[Row]) -> Records:
    """Every metric at full precision."""
    header = ("variant", "against", "metric", *(field.name for field in fields(Combined)))
    return Records(
        header,
        [
            (label, against, key, *found[key].to_dict().values())
            for label, against, found in rows
            for key in KEYS
        ],
    )


def _groups(
    variants: Sequence[tuple[Result, Samples]], factor: str
) -> Iterator[tuple[str, list[Samples]]]:
    """Those that agree in a factor, where there are several."""
    found: dict[str, list[Samples]] = {}
    for one, samples in variants:
        if factor in one.factors:
            found.setdefault(str(one.factors[factor]), []).append(samples)
    return ((value, members) for value, members in found.items() if len(members) > 1)


def _by_metric(
    pairs: Sequence[tuple[Samples, Samples]], baseline: Samples | None = None
) -> dict[str, Combined]:
    """``baseline``: the first of each pair, where that is the unmodified model."""

    def of(key: str) -> list[tuple[Sampled, Sampled]]:
        return [(before.overall[key], after.overall[key]) for before, after in pairs]

    def most(key: str) -> float:
        return float("inf") if baseline is None else most_of(baseline, baseline.overall[key])

    return {key: within(combined(of(key)), key, most=most(key)) for key in KEYS}
