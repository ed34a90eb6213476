"""What detections tell beyond one table of numbers: curves, confusions, changes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.file_names import numbered
from ablate_kit.metrics.confusion import Confusion, confusion
from ablate_kit.metrics.curves import Curves, curves
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.error_types import Cause, errors
from ablate_kit.metrics.matching import greedy_matches
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.transitions import Transitions, changes, groups
from ablate_kit.registry import Registry
from ablate_kit.reports.comparison_figure import most_changed
from ablate_kit.reports.curve_figures import MOST, curves_figure
from ablate_kit.reports.saved_figure import save_figure
from ablate_kit.reports.table import Table

RESULT_FILES: Registry[Callable[[Path, Sequence[Result]], None]] = Registry("result files")
"""Other tools' files, written into a folder of their own."""

CAUSES = tuple(cause for cause in Cause if cause is not Cause.NONE)


def compared(truth: GroundTruth, results: Sequence[Result]) -> Iterator[tuple[str, Transitions]]:
    """Every variant's changes against the first of ``results``, at the common score threshold."""
    if len(results) < 2:
        return
    threshold = results[0].evaluation.thresholds.calibrated
    before = errors(truth, results[0].detections, threshold)
    for one in results[1:]:
        after = errors(truth, one.detections, threshold)
        yield one.name, changes(truth, before, after)


def changes_table(baseline: str, name: str, found: Transitions) -> Table:
    """Objects lost and gained by cause, beside the false positives of both."""
    lost, gained = found.tally(found.lost), found.tally(found.gained)
    before, after = found.before.false_positives, found.after.false_positives

    def row(label: str, of: Sequence[Cause]) -> tuple[str, ...]:
        lose, gain, one, two = (
            sum(counts[cause] for cause in of) for counts in (lost, gained, before, after)
        )
        return label, str(lose), str(gain), str(one), str(two), f"{two - one:+d}"

    rows = [row(cause.name.lower(), [cause]) for cause in CAUSES]
    header = ("cause", "lost", "gained", "false positives", "then", "Δ")
    title = (
        f"{safe.line(baseline)} → {safe.line(name)}: objects lost and gained, "
        f"false positives before and then, at score {found.before.threshold:#.3g}"
    )
    return Table(title, header, (*rows, row("all", CAUSES)), ("cause",))


def groups_table(truth: GroundTruth, found: Transitions) -> Table:
    """The same per class and size."""
    header = ("class", "size", "objects", "found before", "found then", "lost", "gained",
              *(f"lost to {cause.name.lower()}" for cause in CAUSES))  # fmt: skip
    rows = (
        (one.label, one.size, *map(str, (one.support, one.found_before, one.found_after, one.lost,
         one.gained, *(one.lost_to[cause] for cause in CAUSES))))
        for one in groups(truth, found)
    )  # fmt: skip
    return Table("", header, tuple(rows), ("class", "size"))


def confusion_table(classes: Sequence[str], found: Confusion) -> Table:
    """True classes in rows, detected ones in columns; of very many classes, a row to each pair."""
    names = [classes[index] for index in found.classes]
    if not found.is_listed:
        true, detected = (*names, "(no object)"), (*names, "(missed)")
        pairs = zip(found.true, found.detected, found.pairs.tolist(), strict=True)
        listed = ((true[row], detected[column], str(count)) for row, column, count in pairs)
        return Table("", ("true", "detected", "count"), tuple(listed), ("true", "detected"))
    header = ("true \\ detected", *names, "(missed)")
    rows = (
        (name, *map(str, row.tolist()))
        for name, row in zip((*names, "(no object)"), found.counts, strict=True)
    )
    return Table("", header, tuple(rows), header[:1])


def write_details(place: Path, truth: GroundTruth, results: Sequence[Result]) -> None:
    """``curves.svg``, ``.png``, ``.pdf``; ``confusion/`` and, for several, ``changes/`` with a CSV
    per variant."""
    threshold = results[0].evaluation.thresholds.calibrated
    (place / "confusion").mkdir()
    shown = [results[i] for i in most_changed(results, MOST - 1)]
    drawn: Mapping[str, Curves] = {
        one.name: curves(greedy_matches(truth, one.detections)) for one in shown
    }
    others, first = len(results) - 1, safe.label(results[0].name)
    note = f"{first} and the {MOST - 1} of {others} whose AP changes most" if others >= MOST else ""
    save_figure(curves_figure(drawn, threshold, note), place / "curves")
    for i, one in enumerate(results):
        counts = confusion(truth, one.detections, threshold)
        text = confusion_table(truth.classes, counts).csv()
        (place / "confusion" / f"{numbered(i, one.name)}.csv").write_text(text, encoding="utf-8")
    for i, (name, found) in enumerate(compared(truth, results), start=1):
        (place / "changes").mkdir(exist_ok=True)
        text = groups_table(truth, found).csv()
        (place / "changes" / f"{numbered(i, name)}.csv").write_text(text, encoding="utf-8")
