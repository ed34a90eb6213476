"""What screening estimated, beside what was evaluated exactly."""

from collections.abc import Sequence

from ablate_kit.metrics.result import Result
from ablate_kit.plural import counted
from ablate_kit.reports.records import Records
from ablate_kit.reports.table import Table, number
from ablate_kit.sweeps.run_folder.screened import GOOD, Screened, agreement

SHOWN = 40  # rows of the table; all are in screen.csv


def sentence(found: Screened, results: Sequence[Result], margin: float) -> tuple[str, bool]:
    """How many were screened and how far to trust it, and whether that is not far.

    ``results``: the unmodified model's, then each variant's.
    """
    told = agreement(found, _changes(results), margin)
    text = (
        f"{len(found.estimates)} ablations were screened by gradients on "
        f"{counted(found.images, 'image')}; the {len(found.kept)} with the largest estimates and "
        f"{len(found.drawn)} drawn from all were evaluated. Of {told.others} drawn that were not "
        f"kept, {told.missed} lose{'s' * (told.missed == 1)} more than {margin:g} AP here"
    )
    if told.left and told.others:
        text += (
            f": with 95 % confidence at most {told.may_lose} of the {told.left} that were not "
            "evaluated would"
        )
    text += ". "
    if told.correlation is None:
        text += f"{told.variants} variants do not tell how well estimates rank them"
    else:
        text += (
            "Spearman's rank correlation of estimates and exact losses of AP is "
            f"{told.correlation:.2f} on the {told.variants} that were drawn or have the largest "
            "estimates; on all it would be lower where most lose next to nothing"
        )
    poor = told.poor and told.left > 0
    if poor:
        text += (
            f". DO NOT RELY ON THE SCREENING: below {GOOD:g}, costly ablations may be among those "
            "that were not evaluated; give a larger keep, or leave screen out"
        )
    return text, poor


def table(found: Screened, results: Sequence[Result], margin: float) -> Table:
    """The largest estimates first."""
    changes = _changes(results)
    ranked = sorted(found.estimates, key=lambda name: -found.estimates[name])
    drawn = set(found.drawn)
    rows = [
        (
            str(rank),
            name,
            f"{found.estimates[name]:.3g}",
            number(changes[name], "+z.4f"),
            "yes" if name in drawn else "",
        )
        for rank, name in enumerate(ranked, start=1)
        if name in changes
    ]
    title, _ = sentence(found, results, margin)
    if len(rows) > SHOWN:
        title += f". The {SHOWN} largest estimates of {len(rows)} that were evaluated"
    header = ("rank", "variant", "estimate", "Δ AP", "drawn")
    return Table(title, header, tuple(rows[:SHOWN]), ("variant", "drawn"))


def records(found: Screened, results: Sequence[Result]) -> Records:
    """Every estimate, with the exact change of AP where there is one."""
    changes = _changes(results)
    ranked = sorted(found.estimates, key=lambda name: -found.estimates[name])
    kept, drawn = set(found.kept), set(found.drawn)
    return Records(
        ("rank", "variant", "estimate", "kept", "drawn", "AP_change"),
        [
            (rank, name, found.estimates[name], int(name in kept), int(name in drawn),
             changes.get(name))
            for rank, name in enumerate(ranked, start=1)
        ],
    )  # fmt: skip


def _changes(results: Sequence[Result]) -> dict[str, float | None]:
    """Of AP, by variant."""
    before = results[0].evaluation.overall["AP"]
    return {
        one.name: None if after is None or before is None else after - before
        for one in results[1:]
        for after in (one.evaluation.overall["AP"],)
    }
