"""The numbers of one evaluation as tables."""

from ablate_kit import text as safe
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.reports.answer import too_few_for_ap
from ablate_kit.reports.table import Table, number

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
    if told := too_few_for_ap(evaluation):
        title += f"\n{told}"
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


def scores(evaluation: Evaluation) -> str:
    """The score that F1 and GIoU count from, or the range of those of the folds of images."""
    thresholds = evaluation.thresholds
    used = thresholds.folds or (thresholds.calibrated,)
    low, high = f"{min(used):#.3g}", f"{max(used):#.3g}"
    return f"score {min(used):.3g}" if low == high else f"scores {low} to {high}"
