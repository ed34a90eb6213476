"""Evaluation results as tables."""

from collections.abc import Sequence

from ablate_kit import text as safe
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.headline import METRICS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison
from ablate_kit.metrics.uncertainty.multiplicity import LEAST_FREEDOM, Adjust
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import FEW_IMAGES, Change, Changes, moves_apart
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING
from ablate_kit.reports.answer import (
    answer,
    compares_detectors,
    drawn_units,
    without_labels,
    word,
)
from ablate_kit.reports.table import Table, half_width, number

Number = float | None

_ADJUSTED = {"family": "max-T", "fdr": "false discovery rate"}
_CLASSES = 20  # that are printed; all of them are in classes.csv
_FEW_FOR_AP = 200  # images; on 100 it is 0.03 too high, on 300 0.01: benchmarks/few_images.py
APART = "†"  # in place of the star of a GIoU that moves against AP

COCO = (
    ("AP", "IoU 0.50:0.95, all sizes"),
    ("AP50", "IoU 0.50"),
    ("AP75", "IoU 0.75"),
    ("APs", "small objects (area < 32² px)"),
    ("APm", "medium objects"),
    ("APl", "large objects (area > 96² px)"),
    ("AR1", "recall with 1 detection per class and image"),
    ("AR10", "recall with 10"),
    ("AR100", "recall with 100"),
    ("ARs", "recall of small objects"),
    ("ARm", "recall of medium objects"),
    ("ARl", "recall of large objects"),
)


def coco_table(name: str, evaluation: Evaluation) -> Table:
    """The twelve numbers of the COCO protocol."""
    rows = [(key, number(evaluation.overall[key]), meaning) for key, meaning in COCO]
    if most := evaluation.counts.get("max_detections"):
        at = [key for key, _, _ in rows].index("AR100")
        rows[at] = (f"AR{most}", rows[at][1], f"recall with {most}, the limit of all but AR1, AR10")
    title = f"{safe.line(name)}: COCO metrics"
    unit, drawn = drawn_units(evaluation)
    if drawn < _FEW_FOR_AP and (evaluation.overall["AP"] or 0) >= NEXT_TO_NOTHING:
        title += (
            f"\nAP of so few {unit} ({drawn}) is too high, by about 0.04 where that was measured: "
            "hold it only against AP of the same ones"
        )
    return Table(title, ("metric", "value", "of"), tuple(rows), ("metric", "of"))


def overall_table(name: str, evaluation: Evaluation) -> Table:
    """F1 and GIoU over all classes, each beside what it does not see."""
    o, t = evaluation.overall, evaluation.thresholds
    origin = "chosen here on other images" if t.calibrated_here else "of the baseline"
    found = (
        (f"F1 at score {t.fixed:g}", "f1_fixed", "fixed threshold"),
        (f"F1 at {scores(evaluation)}", "f1_calibrated", f"calibrated, {origin}"),
        ("F1 of matched pairs", "f1_matched_pairs", "Deep Dissect; blind to misses"),
        (
            "GIoU, penalized",
            "giou_penalized",
            "a missed object counts -1; blind to false positives",
        ),
        ("GIoU of matched", "giou_matched", "at the calibrated scores"),
        ("match rate", "match_rate", "share of objects that are matched"),
        ("optimal LRP", "olrp", "an error; sees misses, false positives and position"),
        ("  localization", "olrp_localization", "1 - IoU of what is found"),
        ("  false positives", "olrp_false_positive", "share of the detections"),
        ("  misses", "olrp_false_negative", "share of the objects"),
        ("GIoU, published", "giou_published", "Deep Dissect; no threshold"),
    )
    rows = [(label, number(o[key]), meaning) for label, key, meaning in found]
    header = ("metric", "value", "note")
    return Table(
        f"{safe.line(name)}: F1 (IoU 0.5) and GIoU", header, tuple(rows), ("metric", "note")
    )


PER_CLASS = (
    ("AP", "AP"),
    ("AP50", "AP50"),
    ("F1", "f1_calibrated"),
    ("precision", "precision_calibrated"),
    ("recall", "recall_calibrated"),
    ("GIoU pen.", "giou_penalized"),
    ("GIoU matched", "giou_matched"),
    ("match rate", "match_rate"),
)


def class_table(name: str, evaluation: Evaluation) -> Table:
    """One row per class that has ground truth, at the calibrated thresholds."""
    rows = [
        (label, f"{values['support']:g}", *(number(values[key]) for _, key in PER_CLASS))
        for label, values in evaluation.per_class.items()
        if values["support"]
    ]
    title = f"{safe.line(name)}: per class; F1 and GIoU at {scores(evaluation)}"
    header = ("class", "objects", *(head for head, _ in PER_CLASS))
    return Table(title, header, tuple(rows), ("class",))


def comparison(
    results: Sequence[Result],
    changes: Sequence[Changes] | None = None,
    *,
    adjust: Adjust = "family",
    top: int | None = None,
    looks: Looks | None = None,
) -> Table:
    """One row per variant: each metric and its change against the first.

    ``changes`` of ``metrics.significance``, one per variant after the first, give each change half
    the width of its 95 % interval, a star where it is significant, and each row its verdict.
    ``adjust`` is what they were adjusted by. ``top``: only so many variants, those that cost most,
    or of detectors the best; what is said above the table is said of all. ``looks``: of a race,
    after which each row says after how many images its variant stopped.
    """
    baseline = results[0].evaluation.overall
    detectors, own = compares_detectors(results), without_labels(results)
    metrics = METRICS[:2] if own else METRICS
    measures = MEASURES if own else ()
    judged = changes and any(one["AP"].verdict for one in changes)
    rows = [
        (
            result.name,
            *((f"{result.images:,}",) if looks else ()),
            *(
                cell
                for metric in metrics
                for cell in (
                    number(result.evaluation.overall[metric.key]),
                    number(_change(changes, results, i, metric.key), "+z.4f") if i else "",
                    *(_interval(changes, i, metric.key) if changes else ()),
                )
            ),
            *(
                cell
                for one in measures
                for cell in (
                    number(result.evaluation.overall[one.key]),
                    *(_interval(changes, i, one.key) if changes else ()),
                )
            ),
            *((_verdict(changes, i, detectors),) if changes and judged else ()),
        )
        for i, result in _shown(results, top)
    ]
    spread = ("±",) if changes else ()
    names = [metric.label for metric in metrics]
    header = (
        "variant",
        *(("stopped at",) if looks else ()),
        *(text for name in names for text in (name, f"Δ {name}", *spread)),
        *(text for one in measures for text in (one.label, *spread)),
        *(("verdict",) if judged else ()),
    )
    title = _held_against_itself(results[0]) if own else _held_against_labels(results[0])
    if changes:
        title += f"\n{interval_note(results, changes, adjust, looks)}"
        sentence = answer(results, changes)
        title = f"{sentence}\n{title}" if sentence else title
    if len(rows) < len(results):
        which = "with the highest AP" if detectors else "that cost most AP"
        title += f"\nthe {len(rows) - 1} of {len(results) - 1:,} {which}"
    ap = baseline["AP"]
    if len(results) > 1 and ap is not None and ap < NEXT_TO_NOTHING:
        title += (
            f"\n{safe.line(results[0].name)} finds next to nothing (AP {ap:.4f}): "
            "changes against it mean nothing"
        )
    return Table(title, header, tuple(rows), ("variant", "verdict"))


def _held_against_labels(first: Result) -> str:
    counts = first.evaluation.counts
    clustered = f" in {counts['clusters']:,} clusters" if "clusters" in counts else ""
    return (
        f"{counts['images']} images{clustered}, {counts['ground_truths']} objects; F1 at IoU 0.5, "
        f"F1 and GIoU at {scores(first.evaluation)} (best F1 of {safe.line(first.name)}); "
        "GIoU: a missed object counts -1"
    )


def _held_against_itself(first: Result) -> str:
    counts, name = first.evaluation.counts, safe.line(first.name)
    return (
        f"{counts['images']} images without labels: what stands for their objects are the "
        f"{counts['ground_truths']} boxes of {scores(first.evaluation)} or more that {name} finds. "
        f"Every number is a distance from {name}, not from the truth: which of two is right, none "
        "says\nmatched IoU: of the boxes that are kept; class flips, lost, new: for each of those "
        f"boxes, at that score"
    )


def _shown(results: Sequence[Result], top: int | None) -> list[tuple[int, Result]]:
    """The baseline and ``top`` others, by AP; all of them as they come without."""
    numbered = list(enumerate(results))
    if top is None or top >= len(results) - 1:
        return numbered
    sign = -1 if compares_detectors(results) else 1

    def by_ap(one: tuple[int, Result]) -> float:
        ap = one[1].evaluation.overall["AP"]
        return float("inf") if ap is None else sign * ap

    return [numbered[0], *sorted(numbered[1:], key=by_ap)[:top]]


def for_terminal(
    results: Sequence[Result], found: Comparison = NOTHING, top: int | None = None
) -> list[Table]:
    """One result in full, or several side by side; of two the classes, too."""
    if len(results) == 1:
        name, evaluation = results[0].name, results[0].evaluation
        return [table(name, evaluation) for table in (coco_table, overall_table, class_table)]
    tables = [comparison(results, found.changes, adjust=found.statistics.adjust, top=top)]
    if len(found.changes) == 1 and len(found.classes) > 1:
        tables.append(class_changes_table(results, found))
    return tables


def _of_classes(adjust: Adjust) -> str:
    """Some classes are on few images, which decides by itself how each of them is adjusted."""
    few = "; Holm for those on up to 19 images" if adjust == "family" else ""
    return f"{_ADJUSTED[adjust]}{few}"


def class_changes_table(results: Sequence[Result], found: Comparison) -> Table:
    """Of two results the change of each class's AP, or of those that change most."""
    before, after = results
    classes = [
        (name, change)
        for name, change in zip(found.classes, found.by_class[0], strict=True)
        if change.change is not None
    ]
    shown = sorted(classes, key=lambda one: -abs(one[1].change or 0.0))[:_CLASSES]
    rows = [
        (
            name,
            f"{before.evaluation.per_class[name]['support']:g}",
            number(before.evaluation.per_class[name]["AP"]),
            number(change.value),
            number(change.change, "+z.4f"),
            *_half(change, "*" if change.significant else " "),
        )
        for name, change in classes
        if (name, change) in shown
    ]
    title = (
        f"AP per class, {safe.line(before.name)} → {safe.line(after.name)}; "
        f"*: p < 0.05, adjusted ({_of_classes(found.statistics.adjust)}) for {len(classes)} classes"
    )
    if len(rows) < len(classes):
        title += f"; the {len(rows)} that change most, all of them with -o: classes.csv"
    header = ("class", "objects", "AP", "then", "Δ AP", "±")
    return Table(title, header, tuple(rows), ("class",))


def scores(evaluation: Evaluation) -> str:
    """The score that F1 and GIoU count from, or the range of those of the folds of images."""
    thresholds = evaluation.thresholds
    used = thresholds.folds or (thresholds.calibrated,)
    low, high = f"{min(used):#.3g}", f"{max(used):#.3g}"
    return f"score {min(used):.3g}" if low == high else f"scores {low} to {high}"


def interval_note(
    results: Sequence[Result],
    changes: Sequence[Changes],
    adjust: Adjust = "family",
    looks: Looks | None = None,
) -> str:
    """What the intervals of a table mean, and what they can show."""
    controls = sum(one.is_control for one in results[1:])
    tested = len(changes) - controls
    unit, drawn = drawn_units(results[0].evaluation)
    few = adjust == "family" and drawn <= LEAST_FREEDOM
    count = f"{tested} variant{'s' if tested != 1 else ''}"
    if controls:
        count += f"; {controls} random control{'s' if controls > 1 else ''}, not tested"
    if looks:
        note = (
            f"a race: {looks}; changes are against the unmodified model on the same images; ±: "
            "half of the interval of a change, as wide as the look asks for a verdict; "
            f"*: p < 0.05, adjusted for all looks and {count}"
        )
    else:
        note = (
            f"±: half of the 95 % interval of a change, over {unit}; "
            f"*: p < 0.05, adjusted ({'Holm' if few else _ADJUSTED[adjust]}) for {count}"
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
        note += (
            f"; verdict: on AP at a margin of {min(margins):g}, adjusted alike; undecided (+N): "
            f"about N more {unit} would decide"
        )
    if any(map(moves_apart, changes)):
        note += (
            f"; {APART}: significant, too, against AP's change: GIoU does not see false positives"
        )
    if drawn < FEW_IMAGES:
        note += f"; intervals and stars are rough on fewer than {FEW_IMAGES} {unit}"
    return note


def _interval(changes: Sequence[Changes], row: int, key: str) -> tuple[str]:
    change = changes[row - 1][key] if row else None
    if change is None:
        return ("",)
    mark = "*" if change.significant else " "
    if key == "giou_penalized" and moves_apart(changes[row - 1]):
        mark = APART
    return _half(change, mark)


def _half(change: Change, mark: str) -> tuple[str]:
    if change.low is None or change.high is None:
        return ("",)
    return (half_width(change.low, change.high) + mark,)


def _verdict(changes: Sequence[Changes], row: int, detectors: bool) -> str:
    return word(changes[row - 1]["AP"].verdict, detectors=detectors) if row else ""


def _change(
    changes: Sequence[Changes] | None, results: Sequence[Result], row: int, key: str
) -> Number:
    """Against the baseline on the images that the variant has seen."""
    if changes:
        return changes[row - 1][key].change
    before, value = (one.evaluation.overall[key] for one in (results[0], results[row]))
    return None if value is None or before is None else value - before
