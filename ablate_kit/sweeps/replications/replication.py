"""The same cuts in several checkpoints: runs on the same images, side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Intervention, Removed
from ablate_kit.ablations.factors import BY_WEIGHTS, ORDERS
from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import KEYS, Key
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.replicates import Replicated, replicated
from ablate_kit.metrics.uncertainty.significance import most_of, within
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.sweeps.finished_runs.compared_run import compared_run
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.run_inputs import another
from ablate_kit.sweeps.variants.variant import Variant

# How a kind says in which order it took its parts, where that follows from the checkpoint.
_CHOSEN_BY = dict.fromkeys(ORDERS, "by what they cost") | {BY_WEIGHTS: "by their weights"}

# What runs have to share, so that their changes are of one thing.
_SHARED = ("data", "clusters", "max_detections", "score_threshold", "metrics_version")


@dataclass(frozen=True)
class Replication:
    """Cuts that several runs share.

    Attributes:
        names: of the runs' checkpoints.
        baselines: the unmodified model of each.
        cuts: as the first run has them.
        rows: by metric, what the changes of each cut come to.
        only_in_some: names of the cuts that not all runs have.
        of_others: by how their parts were chosen, the names of cuts that are not of the same parts
            in all runs.
        called: what sentences of the first run call cuts, by name; others have no other name.
    """

    names: Sequence[str]
    baselines: Sequence[Result]
    cuts: Sequence[Result]
    rows: Mapping[Key, Sequence[Replicated]]
    only_in_some: Sequence[str]
    statistics: Statistics
    of_others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)

    def title(self, cut: Result) -> str:
        return self.called.get(cut.name, cut.name)


def replication(
    ledgers: Sequence[Ledger], names: Sequence[str], statistics: Statistics
) -> Replication:
    """What finished runs say together of the cuts that all of them have, by name and kind.

    Random controls are left out. Stars and verdicts of a run are adjusted over these cuts.

    Raises:
        UserError: a run is not finished, or a race; two are of the same weights, or of other
            images; no cut is shared.
    """
    for one in ledgers:
        refuse_unfit(one)
    for number, one in enumerate(ledgers[1:], start=1):
        refuse_unlike(ledgers[:number], one.folder, one.inputs)
    found = [one.results() for one in ledgers]
    by_name = [
        {(one.name, one.kind): one for one in results[1:] if not one.is_control}
        for results in found
    ]
    first = by_name[0]
    shared = [key for key in first if all(key in others for others in by_name[1:])]
    if not shared:
        raise _no_shared(ledgers[0].folder, ledgers[1].folder, next(iter(first), ("", ""))[0])
    results = [
        [own[0], *(cuts[key] for key in shared)] for own, cuts in zip(found, by_name, strict=True)
    ]
    compared = [
        compared_run(ledger, own, statistics) for ledger, own in zip(ledgers, results, strict=True)
    ]
    rows: dict[Key, Sequence[Replicated]] = {}
    for key in KEYS:
        changes = [[one.changes[i][key] for one in compared] for i in range(len(shared))]
        found_of = [_differences(i, key, compared) for i in range(len(shared))]
        most = max(
            most_of(one.baseline, one.baseline.overall[key])
            for one in compared
            if one.baseline is not None
        )
        rows[key] = [within(one, key, most=most) for one in replicated(changes, found_of)]
    every = dict.fromkeys(key for cuts in by_name for key in cuts)
    return Replication(
        names,
        [own[0] for own in results],
        results[0][1:],
        rows,
        [name for name, kind in every if (name, kind) not in shared],
        statistics,
        _of_others(ledgers, [own[1:] for own in results]),
    )


def _of_others(ledgers: Sequence[Ledger], runs: Sequence[Sequence[Result]]) -> dict[str, list[str]]:
    """Of the same cuts in each run."""
    made = [ledger.ablations() for ledger in ledgers]
    found: dict[str, list[str]] = {}
    for cuts in zip(*runs, strict=True):
        places = {
            _place(own[one.key]) if one.key in own else None
            for own, one in zip(made, cuts, strict=True)
        }
        if len(places) > 1:
            order = str(cuts[0].factors.get("order", ""))
            found.setdefault(_CHOSEN_BY.get(order, ""), []).append(cuts[0].name)
    return found


def _place(cut: Ablation) -> frozenset[str]:
    """Which elements are cut, whatever they become."""
    blocks: dict[tuple[str, int], set[int]] = {}
    found = {str((type(one).__name__, one.tensor, _rows(one))) for one in cut.live}
    for edit in cut.edits:
        if isinstance(edit.region, Blocks):
            inside = blocks.setdefault((edit.tensor, edit.region.axis), set())
            inside.update(*starmap(range, edit.region.ranges))
        else:
            found.add(str((edit.tensor, edit.region)))
    return frozenset([*found, *(str((*key, sorted(inside))) for key, inside in blocks.items())])


def _rows(one: Intervention) -> object:
    return one.rows if isinstance(one, Removed) else one.ranges


def _differences(cut: int, key: Key, compared: Sequence[Comparison]) -> list[Sampled]:
    return [
        one.samples[cut].overall[key] - one.baseline.overall[key]
        for one in compared
        if one.baseline is not None  # which all have, since there are resamples
    ]


def refuse_unfit(ledger: Ledger) -> None:
    """Raises ``UserError`` for a run that is not finished, or a race."""
    ledger.check_finished()
    if ledger.manifest().race:
        raise UserError(f"{ledger.folder} is a race, in which each cut saw other images")


def refuse_unlike(before: Sequence[Ledger], place: Path, inputs: Mapping[str, Any]) -> None:
    """Raises ``UserError`` for a run of these inputs, done or planned, that cannot be compared with
    the first of those before it, or has the weights of one of them."""
    for key in _SHARED:
        if before[0].inputs.get(key) != inputs.get(key):
            raise UserError(f"{before[0].folder} and {place} are of {another(key)}")
    for one in before:
        if all(one.inputs.get(key) == inputs.get(key) for key in ("checkpoint", "weights")):
            raise same_weights(one.folder, place)


def same_weights(one: Path, other: Path) -> UserError:
    return UserError(f"{one} and {other} are of the same weights")


def refuse_other_cuts(first: Ledger, place: Path, cuts: Iterable[Variant]) -> None:
    """Raises ``UserError`` where a run that is planned shares no cut with the first."""
    named = {(one.name, one.kind): one.name for one in first.manifest().variants}
    if not any((one.name, one.kind) in named for one in cuts):
        raise _no_shared(first.folder, place, next(iter(named.values()), ""))


def _no_shared(first: Path, other: Path, name: str) -> UserError:
    return UserError(f'{first} and {other} share no cut: the first has such as "{name}"')
