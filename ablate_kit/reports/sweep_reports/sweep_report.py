"""The report of a sweep: tables, figures and one page that holds them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.raced_results import until
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import Changes
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.models.opening.framework_registry import packages_of
from ablate_kit.reports.changes import write_changes
from ablate_kit.reports.comparison_table import change_of, comparison
from ablate_kit.reports.folder import write_numbers
from ablate_kit.reports.html import Picture, photograph, saved_picture
from ablate_kit.reports.patch_words import account, has_donor, interplay
from ablate_kit.reports.records import Records, write_records
from ablate_kit.reports.results_file import Origin, Source
from ablate_kit.reports.study_reports.findings import Findings, Sentence
from ablate_kit.reports.study_reports.model_map import model_map
from ablate_kit.reports.study_reports.sentences import sentences
from ablate_kit.reports.study_reports.titles import titles
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
from ablate_kit.reports.sweep_reports.sweep_page import Said, page
from ablate_kit.reports.table import Table
from ablate_kit.studies.noted import Noted, noted
from ablate_kit.sweeps.finished_runs.compared_run import compared_run
from ablate_kit.sweeps.provenance.about import about
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.screened import screened
from ablate_kit.versions import versions_here
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
    statistics = statistics or ledger.manifest().statistics
    race = ledger.manifest().race
    looks = race.looks if race else None
    compared = compared_run(ledger, results, statistics)
    overall = compared.changes
    study = noted(ledger.folder)  # None of a plain sweep
    if study and not study.is_about(one.name for one in results[1:]):
        study = None
    names = titles(study) if study else {}
    parts = sections(results, compared, screened(ledger.folder), statistics, names)
    named = [_called(one, names) for one in results]
    table = comparison(named, overall, statistics=statistics, looks=looks)
    with new_folder(ledger.folder / "report", overwrite=True) as place:
        write_numbers(place, results, compared, _origin(ledger), table, named)
        write_changes(place, results, compared, names)
        for one in parts:
            one.write(place)
        own = {one.name: (one.name, *one.figure) for one in parts if one.figure}
        first = own.pop("dropped", None)
        drawn = [
            *([first] if first else []),
            *figures(named, overall, compared.by_class, curves=looks is None),
            *own.values(),
        ]
        pictures = [saved_picture(place, *one) for one in drawn]
        seen_by_all = looks.images[0] if looks else results[0].images
        truth = truth_of_first(ledger.truth(), seen_by_all)
        seen = [until(one, seen_by_all) for one in results]
        pictures += _pictures_of_boxes(place, truth, seen, overall, dataset, count, names)
        said = _said(place, study, results, compared)
        tables = {"All variants": table, **{one.title: one.table for one in parts}}
        went = _of_race(results, looks) if looks else ""
        text = page(
            place, ledger, results, compared, said, tables=tables, pictures=pictures, race=went
        )
        (place / "report.html").write_text(text, encoding="utf-8")
    few = comparison(named, overall, statistics=statistics, top=top, looks=looks, brief=True)
    return Written(few, compared)


def _called(one: Result, names: Mapping[str, str]) -> Result:
    """As sentences call it, and what it is a random control of."""
    factors = one.factors
    if (of := factors.get("control_of")) is not None:
        factors = {**factors, "control_of": names.get(str(of), str(of))}
    return replace(one, name=names.get(one.name, one.name), factors=factors)


def _said(
    place: Path, study: Noted | None, results: Sequence[Result], compared: Comparison
) -> Said:
    """What a study says, also as ``sentences.md``; or what is said of a donor's modules."""
    if study is None:
        return Said(_of_donor(results, compared))
    found = Findings(study, results, compared)
    told = sentences(found)
    text = "".join(f"* {safe.line(one.text)}\n" for one in told)
    (place / "sentences.md").write_text(text, encoding="utf-8")
    names = titles(study)
    told = [replace(one, rows=tuple(names.get(row, row) for row in one.rows)) for one in told]
    return Said(told, model_map(study, found.ap()), {one.variant for one in found.cut()})


def _of_donor(results: Sequence[Result], compared: Comparison) -> list[Sentence]:
    """Which modules of another checkpoint make the difference, where there is one."""
    if not has_donor(results) or compared.baseline is None:
        return []
    together = interplay(results, compared)
    told = account("the model", "the donor", results, compared.changes, together)
    return [Sentence(f"{line[0].upper()}{line[1:]}.", ()) for line in told]


def _of_race(results: Sequence[Result], looks: Looks) -> str:
    """What a race looked at, how many image passes it took, and what its report leaves out."""
    others = {one.key: one.images for one in results[1:]}
    done, all_of_them = sum(others.values()), looks.images[-1] * len(others)
    return (
        f"A race: {looks}. {done:,} passes of variants over an image instead of {all_of_them:,}, "
        f"{all_of_them / max(done, 1):.1f} times fewer. Repeats, joint cuts and curves are left "
        "out, as variants have not seen the same images; boxes and photographs are of the images "
        "up to the first look."
    )


def _pictures_of_boxes(
    place: Path,
    truth: GroundTruth,
    results: Sequence[Result],
    changes: Sequence[Changes],
    dataset: Dataset | None,
    count: int,
    names: Mapping[str, str],
) -> list[Picture]:
    """Where queries find objects, how boxes move, and photographs of what is lost; the last two of
    the costliest variants."""
    before, *after = results
    kinds = [one.kind if by_itself(one) else None for one in after]
    ap = before.evaluation.overall["AP"] or 0.0
    lost = [change_of(results, changes, "AP", row) for row in range(1, len(results))]
    left = [None if change is None else ap + change for change in lost]
    costliest = [after[i] for i in costliest_of_each_kind(kinds, left, ap, EXAMPLES)]
    moved = _moved(truth, results)
    pictures = []
    if (found := slots(truth, before.detections)) is not None:
        those = {
            names.get(one.name, one.name): moved[one.name] for one in costliest if one.name in moved
        }
        for name, made in (("queries", query_figure(found)), ("boxes", displacement_figure(those))):
            if made is not None:
                pictures.append(saved_picture(place, name, *made))
    if moved:
        rows = [{"variant": name, **one.numbers()} for name, one in moved.items()]
        records = Records(tuple(rows[0]), [list(row.values()) for row in rows])
        write_records(place / "displacement", records)
    if dataset is not None and count:
        pictures += _photographs(place, truth, dataset, before, costliest[:count], names)
    return pictures


def _moved(truth: GroundTruth, results: Sequence[Result]) -> dict[str, Moves]:
    """By variant; nothing where detections do not tell their queries."""
    before = slots(truth, results[0].detections)
    if before is None:
        return {}
    threshold = results[0].evaluation.thresholds.calibrated
    found = ((one.name, slots(truth, one.detections)) for one in results[1:])
    return {name: moves(before, after, threshold) for name, after in found if after is not None}


def _photographs(
    place: Path,
    truth: GroundTruth,
    dataset: Dataset,
    baseline: Result,
    variants: Sequence[Result],
    names: Mapping[str, str],
) -> list[Picture]:
    pictures, rows = [], []
    for number, one in enumerate(examples(truth, dataset, baseline, variants), start=1):
        file = place / f"example{number}.jpg"
        one.picture.save(file, quality=65, optimize=True)
        rows.append([file.name, one.variant, one.image_id, one.file_name, one.lost, one.gained])
        name = names.get(one.variant, one.variant)
        caption = (
            f"{name}: objects of this image lost {one.lost}, gained {one.gained} "
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
    runs = _text(inputs.get("framework"))
    versions = begun.versions if begun else versions_here(packages_of([runs] if runs else []))
    model, data = told.model or {}, told.data or {}
    where = data.get("annotations") or data.get("root") or data.get("kind") or ""
    sources = [
        Source("checkpoint", str(model.get("checkpoint", "")), _text(inputs.get("checkpoint"))),
        Source("data", str(where), _text(inputs.get("data"))),
    ]
    return Origin(command, runs, sources, data, date, versions)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
