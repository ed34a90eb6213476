"""Results compared with the first of them, as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ablate_kit import text as safe
from ablate_kit.ablations.factors import ORDERS
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import FEW_IMAGES, Change, Changes, moves_apart
from ablate_kit.metrics.uncertainty.statistics import DEFAULTS, Statistics
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING, free_takes, untold
from ablate_kit.plural import counted, first_few
from ablate_kit.reports.answer import (
    adjusted_by,
    answer,
    compares_detectors,
    drawn_units,
    images_and_objects,
    not_shown,
    of_all_metrics,
    unequal_clusters,
    without_labels,
    word,
)
from ablate_kit.reports.evaluation_tables import scores
from ablate_kit.reports.table import APART, INTERVAL, Table, ends, number, shows, stars

# In place of a star: ``mark_of``.
GIOU_APART = f"{APART}: significant, too, against AP's change: GIoU does not see false positives"

_Cells = Callable[[int], tuple[str, ...]]  # of a row, by its result's number


@dataclass(frozen=True)
class _Metric:
    """The cells of one metric."""

    results: Sequence[Result]
    changes: Sequence[Changes] | None
    key: str
    interval: bool  # whether changes have theirs, or a mark in its place

    def with_change(self, row: int) -> tuple[str, ...]:
        change = change_of(self.results, self.changes, self.key, row) if row else None
        text = number(change, "+z.4f") if row else ""
        return self._value(row), *self._spread(text, row)

    def alone(self, row: int) -> tuple[str, ...]:
        """A number with its own interval: there is no column of its change."""
        value = self.results[row].evaluation.overall[self.key]
        cell, *rest = self._spread(self._value(row), row)
        if not (self.changes and row and self.interval) or value is None:
            return cell, *rest
        own = self.changes[row - 1][self.key]
        if own.change is None or own.low is None or own.high is None:
            return cell, *rest
        low, high = (value + end - own.change for end in (own.low, own.high))
        return cell, f"{number(low)} to {number(high)}{mark_of(self.changes[row - 1], self.key)}"

    def _value(self, row: int) -> str:
        return number(self.results[row].evaluation.overall[self.key])

    def _spread(self, text: str, row: int) -> tuple[str, ...]:
        if not self.changes:
            return (text,)
        if not row:
            return (text, "") if self.interval else (f"{text} ",)
        own = self.changes[row - 1]
        mark = mark_of(own, self.key)
        return (text, _ends(own[self.key], mark)) if self.interval else (text + mark,)


def comparison(
    results: Sequence[Result],
    changes: Sequence[Changes] | None = None,
    *,
    statistics: Statistics = DEFAULTS,
    top: int | None = None,
    looks: Looks | None = None,
    brief: bool = False,
) -> Table:
    """One row per variant: each metric and its change against the first.

    ``changes`` of ``metrics.significance``, one per variant after the first, give each change its
    95 % interval, a star where it is significant, and each row its verdict. ``brief``, as wide as a
    terminal: intervals of the AP alone, stars of all.
    ``statistics`` are what they were made with. ``top``: only so many variants, those that cost
    most, or of detectors the best; what is said above the table is said of all. ``looks``: of a
    race, after which each row says after how many images its variant stopped.
    """
    detectors, own = compares_detectors(results), without_labels(results)
    spread = (INTERVAL if looks is None else "interval",) if changes else ()
    columns: list[tuple[tuple[str, ...], _Cells]] = [(("variant",), lambda i: (results[i].name,))]
    if looks:
        columns.append((("stopped at",), lambda i: (f"{results[i].images:,}",)))
    for one in METRICS[:2] if own else METRICS:
        ends = () if brief and one.key != "AP" else spread
        cells = _Metric(results, changes, one.key, bool(ends))
        columns.append(((one.label, f"Δ {one.label}", *ends), cells.with_change))
    for measure in MEASURES if own else ():
        ends = () if brief else spread
        cells = _Metric(results, changes, measure.key, bool(ends))
        columns.append(((measure.label, *ends), cells.alone))
    if changes and any(one["AP"].verdict for one in changes):
        columns.append((("verdict",), partial(_verdict, changes, detectors)))
    header = tuple(head for heads, _ in columns for head in heads)
    rows = tuple(
        tuple(cell for _, cells in columns for cell in cells(i))
        for i in _shown(results, changes, top)
    )
    title = _against_itself(results[0]) if own else _against_labels(results[0])
    if changes:
        title += f"\n{interval_note(results, changes, rows, statistics.adjust, looks)}"
        sentence = answer(results, changes)
        title = f"{sentence}\n{title}" if sentence else title
    if len(rows) < len(results):
        which = "with the highest AP" if detectors else "that cost most AP"
        title += f"\nthe {len(rows) - 1} of {len(results) - 1:,} {which}"
    ap = results[0].evaluation.overall["AP"]
    if len(results) > 1 and ap is not None and (why := untold(ap, statistics.margin)):
        means = "changes against it mean nothing"
        if ap >= NEXT_TO_NOTHING:
            means = "no change costs more than that, so that there is no verdict"
        title += f"\n{safe.line(results[0].name)} {why}: {means}"
    return Table(title, header, rows, ("variant", "verdict"))


def _against_labels(first: Result) -> str:
    return (
        f"{images_and_objects(first.evaluation)}; F1 at IoU 0.5, F1 and GIoU at "
        f"{scores(first.evaluation)} (best F1 of {safe.line(first.name)}); GIoU: a missed object "
        "counts -1"
    )


def _against_itself(first: Result) -> str:
    counts, name = first.evaluation.counts, safe.line(first.name)
    return (
        f"{counted(counts['images'], 'image')} without labels: for their objects stand "
        f"{counted(counts['ground_truths'], 'box', 'boxes')} of {scores(first.evaluation)} or more "
        f"that {name} finds. Every number is a distance from {name}, not from the truth: which of "
        "two is right, none says\nmatched IoU: of the boxes that are kept; class flips, lost, new: "
        "for each of those boxes, at that score"
    )


def _shown(
    results: Sequence[Result], changes: Sequence[Changes] | None, top: int | None
) -> list[int]:
    """The baseline and ``top`` others, by the change of AP; all of them as they come without."""
    numbers = list(range(len(results)))
    if top is None or top >= len(results) - 1:
        return numbers
    sign = -1 if compares_detectors(results) else 1

    def by_change(number: int) -> float:
        change = change_of(results, changes, "AP", number)
        return float("inf") if change is None else sign * change

    return [0, *sorted(numbers[1:], key=by_change)[:top]]


def class_changes_table(
    results: Sequence[Result], found: Comparison, most: int | None = None
) -> Table:
    """Of two results the change of each class's AP, or of the ``most`` that change most, in order
    of their changes."""
    before, after = results
    classes = [
        (name, change)
        for name, change in zip(found.classes, found.by_class[0], strict=True)
        if change.change is not None
    ]
    shown = classes
    if most is not None and most < len(classes):
        shown = sorted(classes, key=lambda one: -abs(one[1].change or 0.0))[:most]
    rows = [
        (
            name,
            f"{before.evaluation.per_class[name]['support']:g}",
            number(before.evaluation.per_class[name]["AP"]),
            number(change.value),
            number(change.change, "+z.4f"),
            _ends(change, "*" if change.significant else " "),
        )
        for name, change in shown
    ]
    adjusted = adjusted_by(found.statistics.adjust, found.by_class[0])
    title = (
        f"AP per class, {safe.line(before.name)} → {safe.line(after.name)}; "
        f"{stars(rows)}, adjusted ({adjusted}) for {len(classes)} classes"
    )
    if len(rows) < len(classes):
        title += f"; the {len(rows)} that change most, all of them with -o: classes.csv"
    header = ("class", "objects", "AP", "then", "Δ AP", INTERVAL)
    return Table(title, header, tuple(rows), ("class",))


def interval_note(
    results: Sequence[Result],
    changes: Sequence[Changes],
    rows: Sequence[Sequence[str]],
    adjust: Adjust,
    looks: Looks | None = None,
) -> str:
    """What intervals and marks in the ``rows`` of a table mean, and what they can show."""
    controls = sum(one.is_control for one in results[1:])
    tested = len(changes) - controls
    unit, drawn = drawn_units(results[0].evaluation)
    count = counted(tested, "variant")
    if controls:
        count += f"; {counted(controls, 'random control')}, not tested"
    if looks:
        note = (
            f"a race: {looks}; changes are against the unmodified model on the same images; "
            "interval: of a change, as wide as the look asks for a verdict; "
            f"{stars(rows)}, adjusted for all looks and {count}"
        )
    else:
        note = (
            f"intervals are of changes, over {unit}; "
            f"{stars(rows)}, adjusted ({adjusted_by(adjust, of_all_metrics(changes))}) for {count}"
        )
    found = [change["AP"].detectable for change in changes]
    seen = [one for one in found if one is not None]
    if seen:
        low, high = f"{min(seen):.3f}", f"{max(seen):.3f}"
        more = "or more" if max(seen) > 1 else f"to {high}"  # AP ends at 1
        size = low if low == high else f"{low} {more}, by variant,"
        told = (
            f"no change of AP, on so few {unit}," if min(seen) > 1 else f"a change of AP of {size}"
        )
        note += f"; {told} gets a star 4 times out of 5"
    margins = {one["AP"].verdict.margin for one in changes if one["AP"].verdict}
    if margins:
        note += f"; verdict: on AP at a margin of {min(margins):g}, adjusted alike"
        note += more_would_decide(rows, unit)
        free = [
            one.images if looks else drawn
            for one, change in zip(results[1:], changes, strict=True)
            if change["AP"].verdict and change["AP"].verdict.outcome == "free"
        ]
        if free and (told := not_shown(unit, min(free), min(margins))):
            which = "as good" if compares_detectors(results) else "free"
            note += f"; {which}: {told[0].lower()}{told[1:]}"
    if shows(rows, APART):
        note += f"; {GIOU_APART}"
    if any(one.factors.get("order") in ORDERS for one in results[1:]):
        note += (
            "; cuts of a greedy search or a ranking were chosen on these very images: their "
            "changes, stars and verdicts are better than others would show them"
        )
    if not compares_detectors(results) and (still := _without_effect(results, changes)):
        note += (
            f"; {first_few(still, 3)}: no number changes, as where evaluation runs nothing of what "
            "is cut; what it does for training these images do not tell"
        )
    telling = results[0].evaluation.counts.get("equal_clusters", drawn)
    if telling < FEW_IMAGES:
        note += f"; intervals and stars are rough on fewer than {FEW_IMAGES} {unit}"
        if margins and telling < (takes := free_takes(min(margins))):
            note += f", and to be free takes {takes}"
    if unequal := unequal_clusters(results[0].evaluation):
        note += f"; {unequal}"
    return note


def more_would_decide(rows: Sequence[Sequence[str]], unit: str) -> str:
    """What is in brackets after ``undecided``, where that is in a row."""
    if not any(cell.startswith("undecided (+") for row in rows for cell in row):
        return ""
    return f"; undecided (+N): about N more {unit} would decide"


def _without_effect(results: Sequence[Result], changes: Sequence[Changes]) -> list[str]:
    """Cuts by which no metric changes, on any image."""
    return [
        safe.line(one.name)
        for one, change in zip(results[1:], changes, strict=False)
        if not one.is_control
        and all(change[m.key].change == 0 and change[m.key].low is None for m in METRICS)
    ]


def mark_of(changes: Changes, key: str) -> str:
    """A star where a change is significant; a space in its place."""
    if key == "giou_penalized" and moves_apart(changes):
        return APART
    return "*" if changes[key].significant else " "


def _ends(change: Change, mark: str) -> str:
    return ends(change.low, change.high, mark)


def _verdict(changes: Sequence[Changes], detectors: bool, row: int) -> tuple[str]:
    return (word(changes[row - 1]["AP"].verdict, detectors=detectors) if row else "",)


def change_of(
    results: Sequence[Result], changes: Sequence[Changes] | None, key: str, row: int
) -> float | None:
    """Against the baseline on the images that the variant has seen."""
    if changes:
        return changes[row - 1][key].change
    before, value = (one.evaluation.overall[key] for one in (results[0], results[row]))
    return None if value is None or before is None else value - before
