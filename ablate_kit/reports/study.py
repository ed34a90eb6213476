"""The report of a sweep: tables, figures and one page that holds them all."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, select_autoescape

from ablate_kit.checkpoints.atomic import new_folder
from ablate_kit.metrics.bootstrap import METRICS, Bootstrap, Change, changes, class_changes
from ablate_kit.reports import tables
from ablate_kit.reports.folder import as_dict
from ablate_kit.reports.study_figures import figures
from ablate_kit.reports.table import Table
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.run import Result
from ablate_kit.sweeps.study import results as results_of


def write_study(ledger: Ledger) -> Table:
    """Writes the folder ``report`` of a run, anew and whole, and returns its table.

    ``results.json`` holds every number of the page, ``changes.csv`` every interval at full
    precision and ``classes.csv`` those of each class's AP.
    """
    results = results_of(ledger)
    truth = ledger.truth()
    threshold = results[0].evaluation.thresholds.calibrated
    resamples = int(ledger.study()["resamples"])
    bootstrap = Bootstrap(truth, resamples, int(ledger.study()["seed"]))
    baseline = bootstrap.samples(results[0].detections, threshold)
    by_class, kept = [], []
    for result in results[1:]:
        samples = bootstrap.samples(result.detections, threshold)
        by_class.append(class_changes(baseline, samples))
        del samples["AP per class"]  # the largest part, and not needed again
        kept.append(samples)
    overall = changes(baseline, kept)
    table = tables.comparison(results, overall)
    with new_folder(ledger.folder / "report", overwrite=True) as place:
        text = json.dumps(as_dict(results, overall), indent=1, ensure_ascii=False) + "\n"
        (place / "results.json").write_text(text)
        (place / "table.md").write_text(table.markdown())
        (place / "table.csv").write_text(table.csv())
        (place / "table.tex").write_text(table.latex())
        (place / "changes.csv").write_text(_changes_csv(results, overall))
        (place / "classes.csv").write_text(_classes_csv(results, by_class, truth.classes))
        pictures = []
        with mpl.rc_context({"svg.hashsalt": "ablate", "svg.fonttype": "path"}):
            for name, caption, figure in figures(results, overall, by_class):
                figure.savefig(place / f"{name}.png", dpi=150, metadata={"Software": None})
                figure.savefig(place / f"{name}.svg", metadata={"Date": None})
                svg = (place / f"{name}.svg").read_text()
                pictures.append((name, caption, svg[svg.index("<svg") :]))
        (place / "report.html").write_text(_page(ledger, results, table, pictures, resamples))
    return table


def _page(
    ledger: Ledger,
    results: Sequence[Result],
    table: Table,
    pictures: Sequence[tuple[str, str, str]],
    resamples: int,
) -> str:
    environment = Environment(
        loader=PackageLoader("ablate_kit.reports"), autoescape=select_autoescape(), trim_blocks=True
    )
    counts = results[0].evaluation.counts
    return environment.get_template("report.html").render(
        table=table,
        pictures=pictures,
        inputs=ledger.inputs,
        counts=counts,
        variants=len(results) - 1,
        resamples=resamples,
    )


def _changes_csv(results: Sequence[Result], overall: Sequence[dict[str, Change]]) -> str:
    rows: list[list[Any]] = []
    for result, one in zip(results[1:], overall, strict=True):
        rows += [[result.name, result.kind, key, *one[key].to_dict().values()] for key in METRICS]
    return _csv(["variant", "kind", "metric", *Change.__dataclass_fields__], rows)


def _classes_csv(
    results: Sequence[Result], by_class: Sequence[Sequence[Change]], classes: Sequence[str]
) -> str:
    rows = [
        [result.name, name, *change.to_dict().values()]
        for result, found in zip(results[1:], by_class, strict=True)
        for name, change in zip(classes, found, strict=True)
        if change.change is not None
    ]
    return _csv(["variant", "class", *Change.__dataclass_fields__], rows)


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
