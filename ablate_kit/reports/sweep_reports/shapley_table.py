"""Shapley values of a run's parts (see ``ablations.kinds.shapley``), with both their errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from matplotlib.figure import Figure

from ablate_kit import text as safe
from ablate_kit.ablations.kinds.shapley import ORDER
from ablate_kit.metrics.headline import KEYS, Key
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Samples
from ablate_kit.metrics.uncertainty.chance import LEVEL
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import Combined, average, combined
from ablate_kit.reports.comparison_figure import COLORS
from ablate_kit.reports.records import Records
from ablate_kit.reports.saved_figure import new_figure
from ablate_kit.reports.sweep_reports.joint_cuts import members_of
from ablate_kit.reports.table import INTERVAL, Table, ends, number

DRAWN = 40  # parts in the figure


@dataclass(frozen=True)
class ShapleyValue:
    """One part: what it changes on average over the orders, and when it is cut alone."""

    part: str
    values: Mapping[Key, Combined]
    alone: Mapping[Key, float]


def shapley_values(
    results: Sequence[Result], baseline: Samples, samples: Sequence[Samples]
) -> list[ShapleyValue]:
    """Of every part that the run's permutations cut; none where it has no whole permutation.

    A draw is a permutation together with its reverse: draws are independent of each other, so that
    the deviation between them is the Monte Carlo error.
    """
    sampled = {one.name: found for one, found in zip(results[1:], samples, strict=True)}
    chains: dict[int, dict[int, Result]] = {}
    for one in results[1:]:
        for name, size in one.factors.items():
            number = name.removeprefix(ORDER)
            if name.startswith(ORDER) and number.isdecimal() and isinstance(size, int):
                chains.setdefault(int(number), {})[size] = one
    # By part: for each permutation the samples before and after it is cut.
    steps: dict[str, dict[int, tuple[Samples, Samples]]] = {}
    for order, chain in chains.items():
        if sorted(chain) != list(range(1, len(chain) + 1)):
            continue
        ordered = [chain[size] for size in sorted(chain)]
        before, inside = baseline, frozenset[str]()
        for one in ordered:
            own = frozenset(members_of(one) or (one.name,))
            (part,) = own - inside or ("",)
            steps.setdefault(part, {})[order] = before, sampled[one.name]
            before, inside = sampled[one.name], own
    found = []
    for part, by_order in steps.items():
        couples = [(one, other) for one, other in pairwise(sorted(by_order)) if not one % 2]
        if len(couples) < 2 or part not in sampled:
            continue
        values = {
            key: combined(
                [
                    (
                        average([by_order[order][0].overall[key] for order in couple]),
                        average([by_order[order][1].overall[key] for order in couple]),
                    )
                    for couple in couples
                ]
            )
            for key in KEYS
        }
        alone = {
            key: sampled[part].overall[key].value - baseline.overall[key].value for key in KEYS
        }
        found.append(ShapleyValue(part, values, alone))
    return found


def table(found: Sequence[ShapleyValue]) -> Table:
    """AP, what costs most first."""
    adjusted = holm([one.values["AP"].p for one in found])
    rows = sorted(
        zip(found, adjusted, strict=True), key=lambda row: row[0].values["AP"].change or 0.0
    )
    cells = tuple(
        (
            one.part,
            number(one.alone["AP"], "+z.4f"),
            number(one.values["AP"].change, "+z.4f"),
            ends(
                one.values["AP"].low,
                one.values["AP"].high,
                "*" if p is not None and p < 1 - LEVEL else " ",
            ),
            number(one.values["AP"].error_images),
            number(_monte_carlo(one.values["AP"])),
        )
        for one, p in rows
    )
    total = sum(one.values["AP"].change or 0.0 for one in found)
    draws = found[0].values["AP"].repeats
    title = (
        f"Shapley values of {len(found)} parts, by {2 * draws} permutations in pairs with their "
        f"reverses; they sum to {total:+z.4f} AP, the change of cutting all of them at once; "
        "interval over images and permutations; errors of both: standard error "
        f"by images, Monte Carlo error; *: p < 0.05 after Holm's adjustment for {len(found)} parts"
    )
    header = ("part", "alone", "Shapley, Δ AP", INTERVAL, "by images", "Monte Carlo")
    return Table(title, header, cells, ("part",))


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
    rows = sorted(found, key=lambda one: one.values["AP"].change or 0.0)[:DRAWN]
    drawn = new_figure(6.8, 1.2 + 0.22 * len(rows))
    panel = drawn.subplots()
    panel.axvline(0, color="black", linewidth=1)
    for y, one in enumerate(rows):
        ap = one.values["AP"]
        if ap.low is not None and ap.high is not None and ap.change is not None:
            panel.plot([ap.low, ap.high], [y, y], color=COLORS[1], linewidth=2)
            panel.plot(ap.change, y, "o", color=COLORS[1], markersize=5)
        panel.plot(one.alone["AP"], y, "|", color=COLORS[0], markersize=9)
    panel.set_yticks(range(len(rows)), [safe.label(one.part) for one in rows], fontsize=8)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlabel("share of the change of AP, with its 95 % interval")
    panel.grid(axis="x", color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
    more = f" ({len(found)} parts; the {DRAWN} costliest)" if len(found) > DRAWN else ""
    return f"Shapley values{more}; blue strokes: each part cut alone.", drawn


def _monte_carlo(value: Combined) -> float | None:
    if value.deviation_draws is None:
        return None
    return float(value.deviation_draws / value.repeats**0.5)
