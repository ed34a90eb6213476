"""The report of a sweep: tables, figures and one page that holds them all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from ablate_kit import text as safe
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.raced_results import compare_raced, until
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports import tables
from ablate_kit.reports.changes import write_changes
from ablate_kit.reports.folder import write_numbers
from ablate_kit.reports.patch_words import account, has_donor, interplay_of
from ablate_kit.reports.records import Records, write_records
from ablate_kit.reports.results_file import Origin, Source
from ablate_kit.reports.saved_figure import save_figure
from ablate_kit.reports.study_reports.findings import Findings, Sentence
from ablate_kit.reports.study_reports.model_map import model_map
from ablate_kit.reports.study_reports.sentences import sentences
from ablate_kit.reports.sweep_reports import race_notes
from ablate_kit.reports.sweep_reports.query_boxes import (
    Moves,
    costliest_of_each_kind,
    displacement_figure,
    moves,
    query_figure,
    slots,
)
from ablate_kit.reports.sweep_reports.report_sections import sections
from ablate_kit.reports.sweep_reports.sweep_examples import examples
from ablate_kit.reports.sweep_reports.sweep_figures import by_itself, figures
from ablate_kit.reports.sweep_reports.sweep_page import Picture, page, photograph, themed
from ablate_kit.reports.table import Table
from ablate_kit.studies.noted import noted
from ablate_kit.sweeps.about import about
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.recipes.screening import screened
from detector.data.dataset import Dataset
from detector.disk.atomic import new_folder

EXAMPLES = 6  # photographs, and fields of displacement


@dataclass(frozen=True)
class Written:
    """What a report was written of: its table, perhaps without some rows, and all changes."""

    table: Table
    compared: Comparison


def write_sweep_report(
    ledger: Ledger,
    dataset: Dataset | None = None,
    count: int = EXAMPLES,
    statistics: Statistics | None = None,
    top: int | None = None,
) -> Written:
    """Writes the folder ``report`` of a run, anew and whole; its table has ``top`` rows, or all.

    ``results.json`` holds every number of the page, ``changes.csv`` every interval at full
    precision, ``classes.csv`` those of each class's AP, ``repeats.csv`` what repeats say together,
    ``joint.csv`` what joint cuts change beyond the sum of their members, ``shapley.csv`` Shapley
    values, ``screen.csv`` estimates of what was screened, ``dropped.csv`` curves over how much is
    dropped, ``displacement.csv`` how boxes moved and ``examples.csv`` what is lost on the ``count``
    photographs shown, which need the ``dataset``; all of them as Parquet, too, where pyarrow is
    installed. ``statistics``: other than the run's.
    """
    results = ledger.results()
    truth = ledger.truth()
    threshold = results[0].evaluation.thresholds.calibrated
    statistics = statistics or ledger.manifest().statistics
    race = ledger.manifest().race
    looks = race.looks if race else None
    if looks:
        truth = truth_of_first(truth, results[0].images)
        compared = compare_raced(truth, results, looks, statistics)
    else:
        compared = compare(truth, results, statistics)
    overall = compared.changes
    table = tables.comparison(results, overall, adjust=statistics.adjust, looks=looks)
    parts = sections(results, compared, screened(ledger.folder), statistics)
    seen = looks.images[0] if looks else len(truth.image_ids)
    truth_seen = truth_of_first(truth, seen)
    moved = _moved(truth_seen, [until(one, seen) for one in results], threshold)
    kinds = [one.kind if by_itself(one) else None for one in results[1:]]
    ap, *others = (one.evaluation.overall["AP"] for one in results)
    shown = [
        until(results[1 + i], seen) for i in costliest_of_each_kind(kinds, others, ap, EXAMPLES)
    ]
    with new_folder(ledger.folder / "report", overwrite=True) as place:
        write_numbers(place, results, compared, _origin(ledger), table)
        write_changes(place, results, compared)
        for one in parts:
            one.write(place)
        own = {one.name: (one.name, *one.figure) for one in parts if one.figure}
        first = own.pop("dropped", None)
        drawn = [
            *([first] if first else []),
            *figures(results, overall, compared.by_class, curves=looks is None),
            *own.values(),
            *_of_boxes(
                truth_seen,
                until(results[0], seen),
                {one.name: moved[one.name] for one in shown if one.name in moved},
            ),
        ]
        pictures = [_picture(place, *one) for one in drawn]
        if moved:
            write_records(place / "displacement", _displacement(moved))
        if dataset is not None and count:
            pictures += _photographs(
                place, truth_seen, dataset, until(results[0], seen), shown[:count]
            )
        shown_tables = {"All variants": table, **{one.title: one.table for one in parts}}
        notes = [*ledger.notes(), *left_out(ledger)]
        told, drawn_map, counted = _of_study(place, ledger, results, compared)
        raced = race_notes.told(results, looks) if looks else ""
        text = page(
            place, ledger, results, overall, shown_tables, pictures, notes, statistics, told,
            drawn_map, raced, counted,
        )  # fmt: skip
        (place / "report.html").write_text(text, encoding="utf-8")
    few = tables.comparison(results, overall, adjust=statistics.adjust, top=top, looks=looks)
    return Written(few, compared)


def _picture(place: Path, name: str, caption: str, figure: Figure) -> Picture:
    """A figure in its files, and on the page."""
    for kind in ("png", "svg"):
        save_figure(figure, place / f"{name}.{kind}", kind)
    svg = themed((place / f"{name}.svg").read_text(encoding="utf-8"))
    return Picture(name, caption, f"{name}.svg, {name}.png", svg)


def _of_study(
    place: Path, ledger: Ledger, results: Sequence[Result], compared: Comparison
) -> tuple[list[Sentence], Markup | None, set[str] | None]:
    """What a study says, also as ``sentences.md``, its map, and of which variants its sentences
    count what they come to; of a plain sweep neither a map nor a choice of variants.
    """
    study = noted(ledger.folder)
    if study is None or not study.is_about(one.name for one in results[1:]):
        return _of_donor(results, compared), None, None
    found = Findings(study, results, compared)
    told = sentences(found)
    text = "".join(f"* {safe.line(one.text)}\n" for one in told)
    (place / "sentences.md").write_text(text, encoding="utf-8")
    return told, model_map(study, found.ap()), {one.variant for one in found.cut()}


def _of_donor(results: Sequence[Result], compared: Comparison) -> list[Sentence]:
    """Which modules of another checkpoint make the difference, where there is one."""
    if not has_donor(results) or compared.baseline is None:
        return []
    samples = {one.name: own for one, own in zip(results[1:], compared.samples, strict=True)}
    together = interplay_of(results, compared.baseline, samples)
    told = account("the model", "the donor", results, compared.changes, together)
    return [Sentence(f"{line[0].upper()}{line[1:]}.", ()) for line in told]


def left_out(ledger: Ledger) -> list[str]:
    """What the report of a run of an earlier version lacks."""
    if all(one.factors is not None for one in ledger.manifest().variants):
        return []
    return [
        "the run does not note what its variants have in common, as an earlier version made it: "
        "without pictures of heads, shares and layers, and without what repeats and controls say; "
        "ablate sweep with its recipe notes it"
    ]


def _moved(truth: GroundTruth, results: Sequence[Result], threshold: float) -> dict[str, Moves]:
    """By variant; nothing where detections do not tell their queries."""
    before = slots(truth, results[0].detections)
    if before is None:
        return {}
    found = ((one.name, slots(truth, one.detections)) for one in results[1:])
    return {name: moves(before, after, threshold) for name, after in found if after is not None}


def _of_boxes(
    truth: GroundTruth, baseline: Result, moved: dict[str, Moves]
) -> Iterator[tuple[str, str, Figure]]:
    found = slots(truth, baseline.detections)
    if found is None:
        return
    for name, made in (("queries", query_figure(found)), ("boxes", displacement_figure(moved))):
        if made is not None:
            yield name, *made


def _photographs(
    place: Path, truth: GroundTruth, dataset: Dataset, baseline: Result, variants: Sequence[Result]
) -> list[Picture]:
    pictures, rows = [], []
    for number, one in enumerate(examples(truth, dataset, baseline, variants), start=1):
        file = place / f"example{number}.jpg"
        one.picture.save(file, quality=65, optimize=True)
        rows.append([file.name, one.variant, one.image_id, one.file_name, one.lost, one.gained])
        caption = (
            f"{one.variant}: objects of this image lost {one.lost}, gained {one.gained} "
            f"({one.file_name}). Left unmodified, right the variant."
        )
        pictures.append(Picture(file.stem, caption, file.name, photograph(file)))
    header = ("picture", "variant", "image_id", "file_name", "lost", "gained")
    if rows:
        write_records(place / "examples", Records(header, rows))
    return pictures


def _origin(ledger: Ledger) -> Origin:
    begun = about(ledger.folder)
    command, date = (begun.command, begun.date) if begun else (None, None)
    told, inputs = ledger.manifest(), ledger.inputs
    model, data = told.model or {}, told.data or {}
    where = data.get("annotations") or data.get("root") or data.get("kind") or ""
    sources = [
        Source("checkpoint", str(model.get("checkpoint", "")), _text(inputs.get("checkpoint"))),
        Source("data", str(where), _text(inputs.get("data"))),
    ]
    return Origin(command, _text(inputs.get("framework")), sources, data, date)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _displacement(moved: dict[str, Moves]) -> Records:
    rows = [{"variant": name, **one.numbers()} for name, one in moved.items()]
    return Records(tuple(rows[0]), [list(row.values()) for row in rows])
