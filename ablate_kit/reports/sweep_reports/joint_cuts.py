"""Joint cuts against their members alone: which parts stand in for others, which need others.

The interaction is what a joint cut changes beyond the sum of what its members change alone. Below
zero, the parts are *redundant*: one stands in for the other, and only both together are missed.
Above zero, they are *complementary*: without the one, the other is of less use anyway. Where the
members alone cost more than all that there is, it is above zero whatever the parts do: *floor*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from ablate_kit import text as safe
from ablate_kit.ablations.factors import members_in
from ablate_kit.metrics.headline import DRAWN, KEYS, Key
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Samples
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.significance import COLUMNS, Change, interactions
from ablate_kit.plural import counted
from ablate_kit.reports.records import Records
from ablate_kit.reports.sweep_reports.sweep_figures import heat_map
from ablate_kit.reports.table import INTERVAL, Table, ends, number, shows, stars

TOLD = 3  # pairs of each sort that the sentence names
SHOWN = 20  # rows of the table; all are in joint.csv
MOST_PARTS = 60  # of the heat map
FLOOR = "floor"


@dataclass(frozen=True)
class Joint:
    """One joint cut: its members' changes, its own, and what it changes beyond their sum; ``ap`` is
    that of the unmodified model."""

    name: str
    ap: float
    members: tuple[str, ...]
    sum_of_members: Mapping[Key, float | None]
    change: Mapping[Key, float | None]
    interaction: Mapping[str, Change]

    @property
    def sort(self) -> str:
        """What the interaction of AP says."""
        ap = self.interaction["AP"]
        if not ap.significant or ap.change is None:
            return ""
        if ap.change < 0:
            return "redundant"
        lost = -(self.sum_of_members["AP"] or 0.0)
        return FLOOR if lost > self.ap else "complementary"


def joint_cuts(
    results: Sequence[Result], baseline: Samples, samples: Sequence[Samples], adjust: Adjust
) -> list[Joint]:
    """Of the variants whose members are variants of the same run, random controls left out.

    Args:
        results: the unmodified model's, then each variant's.
        baseline: of the unmodified model, as ``Bootstrap.samples`` gives them.
        samples: of each variant.
    """
    by_name = {one.name: found for one, found in zip(results[1:], samples, strict=True)}
    chosen = []
    for one in results[1:]:
        names = members_in(one.factors)
        if len(names) < 2 or one.is_control or one.kind in ("shapley", "ranked"):
            continue
        if all(name in by_name for name in names):
            chosen.append((one, names))
    whole = [by_name[one.name] for one, _ in chosen]
    parts = [[by_name[name] for name in names] for _, names in chosen]
    rows = interactions(baseline, whole, parts, adjust)
    found = []
    for (one, names), after, own, row in zip(chosen, whole, parts, rows, strict=True):
        total, change = {}, {}
        for key in KEYS:
            before = baseline.overall[key].value
            change[key] = safe.finite(after.overall[key].value - before)
            total[key] = safe.finite(sum(part.overall[key].value - before for part in own))
        found.append(Joint(one.name, baseline.overall["AP"].value, names, total, change, row))
    return found


def renamed(one: Joint, called: Mapping[str, str]) -> Joint:
    """With its members as a study calls them."""
    return replace(one, members=tuple(called.get(name, name) for name in one.members))


def sentence(found: Sequence[Joint]) -> str:
    """Which of them interact, in words."""
    told = []
    meanings = {
        "redundant": "together they cost more than the sum of each alone",
        "complementary": "together they cost less than the sum of each alone",
    }
    for sort, meaning in meanings.items():
        rows = [one for one in found if one.sort == sort]
        rows.sort(key=lambda one: -abs(one.interaction["AP"].change or 0.0))
        if rows:
            named = "; ".join(
                f"{' and '.join(one.members)} ({one.interaction['AP'].change:+z.4f} AP)"
                for one in rows[:TOLD]
            )
            more = f"; {len(rows) - TOLD} more" if len(rows) > TOLD else ""
            told.append(f"{len(rows)} {sort}: {meaning}: {named}{more}")
    others = ", ".join(
        f"in {other.label} {count}"
        for other in DRAWN
        if other.key != "AP"
        and (count := sum(one.interaction[other.key].significant for one in found))
    )
    if others:
        others = f"; significant {others}"
    floor = sum(one.sort == FLOOR for one in found)
    if floor:
        others = f"; in {floor} the members cost more than all AP alone, which says nothing{others}"
    if not told:
        if len(found) == 1:
            says = "the joint cut does not differ"
        else:
            says = f"none of {len(found)} joint cuts differs"
        of = " but by what there is to lose" if floor else ""
        return f"{says} significantly in AP from the sum of its members{of}{others}"
    return f"of {counted(len(found), 'joint cut')} {'. '.join(told)}{others}"


def table(found: Sequence[Joint]) -> Table:
    """AP, the strongest interactions first."""
    rows = sorted(found, key=lambda one: -abs(one.interaction["AP"].change or 0.0))[:SHOWN]
    cells = []
    for one in rows:
        ap = one.interaction["AP"]
        star = "*" if ap.significant else " "
        cells.append(
            (
                " + ".join(one.members),
                number(one.sum_of_members["AP"], "+z.4f"),
                number(one.change["AP"], "+z.4f"),
                number(ap.change, "+z.4f"),
                ends(ap.low, ap.high, star),
                one.sort,
            )
        )
    shown = f", the {SHOWN} strongest of {len(found)}" if len(found) > SHOWN else ""
    title = (
        f"{sentence(found)}\nΔ AP of joint cuts{shown}; interaction: beyond the sum of the members "
        f"alone, with its interval; {stars(cells)}, adjusted for {len(found)}"
    )
    if shows(cells, FLOOR):
        title += f"; {FLOOR}: alone the members cost more than all AP, so that together it is less"
    header = ("joint cut", "sum of members", "together", "interaction", INTERVAL, "sort")
    return Table(title, header, tuple(cells), ("joint cut", "sort"))


def records(found: Sequence[Joint]) -> Records:
    """Every metric at full precision."""
    header = ("variant", "members", "metric", "sum_of_members", "together")
    own = tuple(name for name in COLUMNS if name not in ("value", "change"))
    return Records(
        (*header, "interaction", *own),
        [
            (
                one.name, "+".join(one.members), key, one.sum_of_members[key], one.change[key],
                one.interaction[key].change,
                *(one.interaction[key].to_dict()[name] for name in own),
            )
            for one in found
            for key in KEYS
        ],
    )  # fmt: skip


def figure(found: Sequence[Joint]) -> tuple[str, Figure] | None:
    """The interactions of pairs as a heat map; None where there are no pairs of three parts."""
    pairs = {one.members: one for one in found if len(one.members) == 2}
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    if len(names) < 3:
        return None
    strongest = dict.fromkeys(names, 0.0)
    for pair, one in pairs.items():
        for name in pair:
            value = abs(one.interaction["AP"].change or 0.0)
            strongest[name] = max(strongest[name], value)
    kept = sorted(names, key=lambda name: -strongest[name])[:MOST_PARTS]
    names = [name for name in names if name in set(kept)]
    matrix = np.full((len(names), len(names)), np.nan)
    marks = np.zeros(matrix.shape, dtype=np.bool_)
    for (a, b), one in pairs.items():
        if a in names and b in names:
            i, j = names.index(a), names.index(b)
            ap = one.interaction["AP"]
            matrix[i, j] = matrix[j, i] = np.nan if ap.change is None else ap.change
            marks[i, j] = marks[j, i] = one.sort not in ("", FLOOR)
    if not np.isfinite(matrix).any():
        return None
    caption = (
        "What each pair changes of AP beyond the sum of both alone. *: significant, adjusted for "
        f"{counted(len(found), 'joint cut')}: below zero one stands in for the other, above zero "
        "they need each other. Colors of the others may be chance"
        + (", or alone they cost more than all AP." if any(x.sort == FLOOR for x in found) else ".")
    )
    label = "interaction, AP"
    return caption, heat_map(matrix, marks, names, names, "", numbers=False, label=label)
