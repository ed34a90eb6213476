"""Shapley values of a run's parts (see ``ablations.kinds.shapley``), with both their errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import comb

from matplotlib.figure import Figure

from ablate_kit.ablations.factors import members_in
from ablate_kit.ablations.kinds.shapley import ORDER, SUBSET
from ablate_kit.metrics.headline import KEYS, Key
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Samples
from ablate_kit.metrics.uncertainty.chance import LEVEL
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import Combined, average, combined
from ablate_kit.metrics.uncertainty.significance import within
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.records import Records
from ablate_kit.reports.saved_figure import mark_change, rows_of_changes
from ablate_kit.reports.sweep_reports import repeats_table
from ablate_kit.reports.table import INTERVAL, Table, number, stars

DRAWN = 40  # parts in the figure


@dataclass(frozen=True)
class ShapleyValue:
    """One part: what it changes on average over the orders, and when it is cut alone."""

    part: str
    values: Mapping[Key, Combined]
    alone: Mapping[Key, float]


@dataclass(frozen=True)
class Step:
    """A part is cut on top of others, which counts so much of the mean."""

    weight: float
    before: Samples
    after: Samples


def shapley_values(
    results: Sequence[Result], baseline: Samples, samples: Sequence[Samples]
) -> list[ShapleyValue]:
    """Of every part that the run cut in all subsets or in whole permutations; none without either.

    A draw is a permutation together with its reverse: the deviation between draws is the Monte
    Carlo error. All subsets are one draw, which is exact.
    """
    sampled = {one.name: found for one, found in zip(results[1:], samples, strict=True)}
    every = _of_all_subsets(results, baseline, sampled)
    found = []
    for part, draws in (every or _of_permutations(results, baseline, sampled)).items():
        if part not in sampled:
            continue
        alone = {
            key: sampled[part].overall[key].value - baseline.overall[key].value for key in KEYS
        }
        values = {key: within(_value(draws, key), key) for key in KEYS}
        found.append(ShapleyValue(part, values, alone))
    return found


def _value(draws: Sequence[Sequence[Step]], key: Key) -> Combined:
    pairs = []
    for steps in draws:
        weights = [one.weight for one in steps]
        ends = ([getattr(one, end).overall[key] for one in steps] for end in ("before", "after"))
        before, after = (average(of, weights) for of in ends)
        pairs.append((before, after))
    if len(pairs) == 1:  # another draw would say the same
        return replace(combined(pairs * 2), repeats=1)
    return combined(pairs)


def _of_all_subsets(
    results: Sequence[Result], baseline: Samples, sampled: Mapping[str, Samples]
) -> dict[str, list[list[Step]]]:
    """By part; nothing where the run did not cut all."""
    cuts = {
        frozenset(_inside(one)): sampled[one.name] for one in results[1:] if SUBSET in one.factors
    }
    parts = sorted(frozenset[str]().union(*cuts))
    if not cuts or len(cuts) != 2 ** len(parts) - 1:
        return {}
    cuts[frozenset()] = baseline
    return {
        part: [
            [
                Step(1 / comb(len(parts) - 1, len(inside)), before, cuts[inside | {part}])
                for inside, before in cuts.items()
                if part not in inside
            ]
        ]
        for part in parts
    }


def _of_permutations(
    results: Sequence[Result], baseline: Samples, sampled: Mapping[str, Samples]
) -> dict[str, list[list[Step]]]:
    """By part; of two draws or more."""
    chains: dict[int, dict[int, Result]] = {}
    for one in results[1:]:
        for name, size in one.factors.items():
            number = name.removeprefix(ORDER)
            if name.startswith(ORDER) and number.isdecimal() and isinstance(size, int):
                chains.setdefault(int(number), {})[size] = one
    by_part: dict[str, dict[int, Step]] = {}  # by permutation
    for order, chain in chains.items():
        if sorted(chain) != list(range(1, len(chain) + 1)):
            continue
        cuts = [chain[size] for size in sorted(chain)]
        insides = [frozenset[str](), *(frozenset(_inside(one)) for one in cuts)]
        added = [tuple(own - inside) or ("",) for inside, own in pairwise(insides)]
        if max(map(len, added)) > 1:  # of two lines, which recipes could have once
            return {}
        known = [baseline, *(sampled[one.name] for one in cuts)]
        for (part,), (before, after) in zip(added, pairwise(known), strict=True):
            by_part.setdefault(part, {})[order] = Step(1, before, after)
    draws = {
        part: [[steps[one], steps[other]] for one, other in pairwise(sorted(steps)) if not one % 2]
        for part, steps in by_part.items()
    }
    return {part: found for part, found in draws.items() if len(found) > 1}


def _inside(one: Result) -> tuple[str, ...]:
    """The parts that a cut is of."""
    return members_in(one.factors) or (one.name,)


def table(found: Sequence[ShapleyValue], unit: str) -> Table:
    """AP, what costs most first. ``unit``: what is drawn for intervals."""
    rows = _ranked(found)
    cells = tuple(
        (
            one.part,
            number(one.alone["AP"], "+z.4f"),
            number(one.values["AP"].change, "+z.4f"),
            repeats_table.interval(one.values["AP"], p),
            number(one.values["AP"].error_images),
            number(_monte_carlo(one.values["AP"])),
        )
        for one, p in rows
    )
    total = sum(one.values["AP"].change or 0.0 for one in found)
    draws = found[0].values["AP"].repeats
    by = f"by {2 * draws} permutations in pairs with their reverses"
    short = ", at times too short, as parts are more" if 2 * draws < len(found) else ""
    interval = (
        f"interval over {unit} and permutations{short}; errors of both: standard error by {unit}, "
        "Monte Carlo error"
    )
    if draws == 1:
        by = f"exact, by all {2 ** len(found) - 1} subsets"
        interval = f"interval over {unit}; standard error by {unit}"
    title = (
        f"Shapley values of {len(found)} parts, {by}; they sum to {total:+z.4f} AP, the change of "
        f"cutting all of them at once; {interval}; "
        f"{stars(cells)} after Holm's adjustment for {len(found)} parts"
    )
    header = ("part", "alone", "Shapley, Δ AP", INTERVAL, f"by {unit}", "Monte Carlo")
    return Table(title, header, cells, ("part",))


def _ranked(found: Sequence[ShapleyValue]) -> list[tuple[ShapleyValue, float | None]]:
    """What costs most first, each with its p of AP, adjusted for all parts."""
    adjusted = holm([one.values["AP"].p for one in found])
    rows = zip(found, adjusted, strict=True)
    return sorted(rows, key=lambda row: row[0].values["AP"].change or 0.0)


def records(found: Sequence[ShapleyValue]) -> Records:
    """Every metric at full precision."""
    header = ("part", "metric", "alone", *(field.name for field in fields(Combined)))
    return Records(
        header,
        [
            (one.part, key, one.alone[key], *one.values[key].to_dict().values())
            for one in found
            for key in KEYS
        ],
    )


def figure(found: Sequence[ShapleyValue]) -> tuple[str, Figure]:
    """Each part's value with its interval, beside what it changes alone."""
    rows = _ranked(found)[:DRAWN]
    axis = "share of the change of AP, with its 95 % interval"
    drawn, panel = rows_of_changes([one.part for one, _ in rows], axis)
    for y, (one, p) in enumerate(rows):
        ap = one.values["AP"]
        if ap.change is not None:
            starred = p is not None and p < 1 - LEVEL
            mark_change(panel, y, ap.change, (ap.low, ap.high), COLORS[1], significant=starred)
        panel.plot(one.alone["AP"], y, "|", color=COLORS[0], markersize=9)
    more = f" ({len(found)} parts; the {DRAWN} costliest)" if len(found) > DRAWN else ""
    told = (
        f"Shapley values{more}. Filled, orange: significant after Holm's adjustment for all parts"
    )
    return f"{told}; blue strokes: each part cut alone.", drawn


def _monte_carlo(value: Combined) -> float | None:
    if value.deviation_draws is None:
        return None
    return float(value.deviation_draws / value.repeats**0.5)
