"""Which modules make the difference between two checkpoints, in words."""

from collections.abc import Mapping, Sequence

from ablate_kit import text as safe
from ablate_kit.ablations.kinds.donor_modules import DONOR, KIND
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import Change, Changes, interactions
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING
from ablate_kit.plural import first_few
from ablate_kit.reports.table import ends

NAMED = 3  # modules that the sentence names
# Standard errors that the donor's change takes for shares of it to be told: a half of 3 is off by
# more than 20 points in a third, of 6 in a tenth (``benchmarks/simulated_interactions.py``).
_FOR_SHARES = 6


def interplay(results: Sequence[Result], compared: Comparison) -> Change | None:
    """By how much AP of the donor whole goes beyond its modules' own changes; None of one module.

    ``results``: of the first checkpoint, then of the variants of ``donor_variants.patches``.
    """
    alone = [one.name for one in results if one.kind == KIND and "module" in one.factors]
    if not alone or compared.baseline is None:
        return None
    samples = {one.name: own for one, own in zip(results[1:], compared.samples, strict=True)}
    own = [samples[name] for name in alone]
    return interactions(compared.baseline, [samples[DONOR]], [own])[0]["AP"]


def has_donor(results: Sequence[Result]) -> bool:
    """Whether a run puts modules of another checkpoint in."""
    return any(one.kind == KIND and one.name == DONOR for one in results)


def account(
    first: str,
    donor: str,
    results: Sequence[Result],
    changes: Sequence[Changes],
    together: Change | None,
) -> list[str]:
    """Sentences: how far the two are apart, which modules bring it alone, and what is left over."""
    found = {one.name: (one, row["AP"]) for one, row in zip(results[1:], changes, strict=True)}
    _, total = found[DONOR]
    first, donor = safe.line(first), safe.line(donor)
    if total.change is None or total.p is None:
        return [f"how {donor} changes AP against {first} cannot be told on these images"]
    interval = ends(total.low, total.high, "")
    spread = f"95 % interval {interval}" if interval else "on all of them alike"
    told = [f"{donor} changes AP by {total.change:+z.4f} against {first}, {spread}"]
    if not total.significant:
        told[0] += (
            f", not significantly among {len(found)} variants: these images show nothing to "
            "account for"
        )
    if between := _no_way_between(found, results[0], total):
        why = "units of one model do not correspond to those of the other, as of two seeds"
        return [*told, f"{between}: {why}; modules put in alone say nothing of the difference"]
    alone = [
        (one.name, row)
        for one, row in found.values()
        if one.kind == KIND and "module" in one.factors
    ]
    known = [(name, row) for name, row in alone if row.change is not None]
    starred = [(name, row) for name, row in known if row.significant]
    starred.sort(key=lambda one: -abs(one[1].change or 0.0))
    if starred:
        named = [
            f"{safe.line(name)} {row.change:+z.4f}{_share(row, total)}" for name, row in starred
        ]
        told.append(f"put in alone, significantly: {first_few(named, NAMED)}")
    elif alone:
        which = "the one module" if len(alone) == 1 else f"none of the {len(alone)} modules"
        verb = "does not change" if len(alone) == 1 else "changes"
        told.append(f"{which} put in alone {verb} AP significantly")
    if together is not None and together.change is not None and known:
        total_alone = sum(row.change or 0.0 for _, row in known)
        rest = f"all at once they bring {together.change:+z.4f} beyond that"
        if together.significant:
            rest += ", significantly: the modules depend on each other"
        else:
            rest += ", not significantly"
        told.append(f"one by one its modules sum to {total_alone:+z.4f}; {rest}")
    return told


def _no_way_between(
    found: Mapping[str, tuple[Result, Change]], first: Result, donor: Change
) -> str:
    """That a model between the two finds nothing, though both do, and not by chance; else empty."""
    both = (first.evaluation.overall["AP"], donor.value)
    if min(ap or 0.0 for ap in both) < NEXT_TO_NOTHING:
        return ""
    for name, (one, row) in found.items():
        within = 0 < float(one.factors.get("alpha", 0)) < 1
        if within and row.significant and (row.value or 0.0) < NEXT_TO_NOTHING:
            return f"between the two ({name}) next to nothing is left"
    return ""


def _share(row: Change, total: Change) -> str:
    if not total.significant or not total.change or row.change is None or not total.error:
        return ""
    if abs(total.change) < _FOR_SHARES * total.error:
        return ""
    return f" ({row.change / total.change:.0%} of it)"
