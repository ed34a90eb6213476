"""What the same cuts say in several checkpoints, in sentences."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from ablate_kit import text as safe
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.replicates import FEWEST, Replicated
from ablate_kit.metrics.uncertainty.verdict import unseen, untold
from ablate_kit.reports.answer import drawn_units, not_shown, noun
from ablate_kit.sweeps.replications.replication import Replication

NAMED = 4  # cuts that one sentence names
_RANKED = 5  # cuts that an order takes

Row = tuple[Result, Replicated]


def replication_sentences(found: Replication) -> list[str]:
    """The answer first: what holds in all checkpoints."""
    rows = list(zip(found.cuts, found.rows["AP"], strict=True))
    told = [_in_all(found, rows), _apart(found, rows), _like_these(found, rows), _order(found)]
    return [one for one in (*told, _by_number(found.cuts)) if one]


def outcome_word(outcome: str | None) -> str:
    return {None: "", "differ": "they differ"}.get(outcome, str(outcome))


def _in_all(found: Replication, rows: Sequence[Row]) -> str:
    count = len(found.names)
    every = "both checkpoints" if count == 2 else f"all {count} checkpoints"
    margin = f"{found.statistics.margin:g} AP"
    judged = [row for row in rows if row[1].outcome is not None]
    if not judged:
        return _no_verdict(found)
    parts = []
    for outcome, one, several in (
        ("costs", f"costs more than {margin} in {every}", f"cost more than {margin} in {every}"),
        ("gains", f"gains more than {margin} in {every}", f"gain more than {margin} in {every}"),
        ("free", f"is free in {every}", f"are free in {every}"),
    ):
        of_it = [row for row in judged if row[1].outcome == outcome]
        if of_it or outcome != "gains":
            said = one if len(of_it) == 1 else several
            parts.append(
                f"{len(of_it)} {said}{_named(found, of_it, _changes, least=outcome == 'free')}"
            )
    apart = [row for row in judged if row[1].outcome == "differ"]
    if apart:
        said = "has verdicts" if len(apart) == 1 else "have verdicts"
        parts.append(f"{len(apart)} {said} that differ{_named(found, apart, _changes)}")
    left = sum(row[1].outcome == "undecided" for row in judged)
    if left:
        parts.append(f"{left} {'is' if left == 1 else 'are'} undecided")
    kind = noun([one for one, _ in judged])
    shown = ""
    if any(row[1].outcome == "free" for row in judged):
        shown = not_shown(*drawn_units(found.baselines[0].evaluation), found.statistics.margin)
    return (
        f"Of {len(judged)} {'cuts' if kind == 'variants' else kind}, {'; '.join(parts)}."
        f"{shown and f' {shown}.'}"
    )


def _no_verdict(found: Replication) -> str:
    for name, one in zip(found.names, found.baselines, strict=True):
        if why := untold(one.evaluation.overall["AP"], found.statistics.margin):
            return f"No verdict: {safe.line(name)} {why}."
    return "No verdict: without intervals."


def _apart(found: Replication, rows: Sequence[Row]) -> str:
    apart = [row for row in rows if row[1].differs]
    if not apart:
        return "Nowhere do the checkpoints differ significantly."
    differ = (
        "change of 1 cut differs" if len(apart) == 1 else f"changes of {len(apart)} cuts differ"
    )
    named = _named(found, apart, _changes, lambda one: one.deviation or 0.0)
    return f"The {differ} significantly between the checkpoints{named}."


def _like_these(found: Replication, rows: Sequence[Row]) -> str:
    count = len(found.names)
    if count < FEWEST:
        return "Two checkpoints tell next to nothing of a third one: give three or more."
    of_it: dict[str | None, list[Row]] = {}
    for row in rows:
        of_it.setdefault(row[1].of_like, []).append(row)
    if set(of_it) == {None}:
        return ""
    costs, gains, free = (of_it.get(one, []) for one in ("costs", "gains", "free"))
    margin = f"{found.statistics.margin:g} AP"
    unit, _ = drawn_units(found.baselines[0].evaluation)
    parts = [f"{len(costs)} cost{'s' * (len(costs) == 1)} more than {margin}"]
    parts[0] += _named(found, costs, _interval)
    if gains:
        gain = f"gain{'s' * (len(gains) == 1)}"
        parts.append(f"{len(gains)} {gain} more than {margin}{_named(found, gains, _interval)}")
    named = _named(found, free, _interval, least=True)
    parts.append(f"{len(free)} {'is' if len(free) == 1 else 'are'} free{named}")
    return (
        f"In checkpoints like these, by the 95 % interval over checkpoints and {unit} (of each cut "
        f"alone, not adjusted for {len(rows)}), {'; '.join(parts)}. What happens in less than "
        f"{unseen(count):.0%} of all checkpoints these {count} may not show."
    )


def _order(found: Replication) -> str:
    """How alike the checkpoints rank the cuts."""
    changes = [
        [one.change for one in row.changes] for row in found.rows["AP"] if row.mean is not None
    ]
    if len(changes) < _RANKED:
        return ""
    by_checkpoint = np.array(changes, dtype=float).T
    if any(np.ptp(one) == 0 for one in by_checkpoint):
        return ""
    from scipy.stats import spearmanr  # which takes a third of a second to load

    pairs = [float(spearmanr(*two).statistic) for two in combinations(by_checkpoint, 2)]
    spread = f"{min(pairs):.2f}"
    if len(pairs) > 1:
        spread += f" to {max(pairs):.2f} between two of them"
    return (
        "How alike they rank the cuts, on these images: Spearman's rank correlation of the changes "
        f"is {spread}."
    )


def _by_number(cuts: Sequence[Result]) -> str:
    """What of a network has no name of its own: training from other weights may swap it."""
    named = [
        name
        for factor, name in (("head", "heads"), ("query", "queries"))
        if any(factor in one.factors for one in cuts)
    ]
    if not named:
        return ""
    what = " and ".join(named)
    return (
        f"{what[0].upper()}{what[1:]} are matched by number. Networks that were trained from other "
        f"initial weights have them in an order of their own: of these compare how many {what} of "
        "a module cost or are free, and whole modules."
    )


def _named(
    found: Replication,
    rows: Sequence[Row],
    told: Callable[[Replicated], str],
    size: Callable[[Replicated], float] = lambda one: abs(one.mean or 0.0),
    *,
    least: bool = False,
) -> str:
    """The largest of them, or those that change ``least``, with their numbers; nothing of none."""
    if not rows:
        return ""
    chosen = sorted(rows, key=lambda row: size(row[1]), reverse=not least)[:NAMED]
    names = "; ".join(_with(safe.line(found.title(cut)), told(row)) for cut, row in chosen)
    among = ", such as" if least else ", most of all"
    return f"{among if len(rows) > NAMED else ':'} {names}"


def _with(title: str, numbers: str) -> str:
    """One pair of brackets, also where a title says in some how a part is cut."""
    return f"{title[:-1]}: {numbers})" if title.endswith(")") else f"{title} ({numbers})"


def _changes(row: Replicated) -> str:
    return ", ".join(
        "not defined" if one.change is None else f"{one.change:+z.4f}" for one in row.changes
    )


def _interval(row: Replicated) -> str:
    return f"{row.mean:+z.4f}, {row.low:+z.4f} to {row.high:+z.4f}"
