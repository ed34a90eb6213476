"""``ablate score``: detections that were written down before, by whatever detector."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.dataset_options import (
    AnnotatedFiles,
    Annotations,
    Devkit,
    Difficult,
    Split,
    VocClasses,
    YoloRoot,
    YoloYaml,
)
from ablate_kit.cli.early import check_files
from ablate_kit.cli.origin import origin, source
from ablate_kit.cli.output import numbers as decimals
from ablate_kit.cli.output import print_json, say, say_lines, warn, write_json
from ablate_kit.cli.statistics_options import StatisticsOptions, Top
from ablate_kit.errors import UserError
from ablate_kit.models.naming import names_of

if TYPE_CHECKING:
    from ablate_kit.metrics.calibration import Calibration
    from ablate_kit.metrics.detection_files import AnnotatedImages


def score(
    detections: Annotated[
        list[Path],
        typer.Argument(
            help="COCO results (.json, .json.gz), .npz, folder of VOC's comp4_det_test_<class>.txt "
            "or of YOLO's text files, pickle of MMDetection or Detectron2; the first is the one "
            "others are held against."
        ),
    ],
    *,
    annotations: Annotations = None,
    voc: Devkit = None,
    split: Split = None,
    yolo: YoloYaml = None,
    yolo_root: YoloRoot = None,
    voc_classes: VocClasses = None,
    difficult: Difficult = None,
    boxes: Annotated[
        str | None, typer.Option(help="xywh (COCO's own) or xyxy, of the JSON files.")
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(help="Names of the class numbers of YOLO or a pickle, one per line."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that cannot be scored.")
    ] = False,
    score_threshold: Annotated[
        float, typer.Option(help="Of the F1 at a fixed threshold.", min=0, max=1)
    ] = 0.5,
    iou: Annotated[
        str | None, typer.Option(help="AP at these IoU thresholds as well: 0.3,0.5.")
    ] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="mAP of voc or thesis as well; may be repeated.")
    ] = None,
    deep_dissect: Annotated[
        bool, typer.Option("--deep-dissect", help="Write that tool's four files to the report.")
    ] = False,
    max_detections: Annotated[
        int,
        typer.Option(help="Of a class that count in an image: for data with more objects.", min=11),
    ] = 100,
    tests: StatisticsOptions,
    top: Top = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for tables, figure and JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Score files of detections: what 'ablate eval' reports, without a model."""
    check_files(*detections, annotations, yolo, voc_classes, class_names)
    from ablate_kit.checkpoints.pickle.plain_data import read_plain
    from ablate_kit.metrics.clusters import clusters_of
    from ablate_kit.metrics.detection_files import read_dump
    from ablate_kit.metrics.detection_files.read_detections import uses_class_names
    from ablate_kit.metrics.detection_files.text_files import read_lines
    from ablate_kit.metrics.result import Result
    from ablate_kit.metrics.spill import Loaded, Spill
    from ablate_kit.metrics.uncertainty.comparison import compare
    from ablate_kit.reports import error_analysis, tables
    from ablate_kit.reports.folder import check_free, write_report
    from ablate_kit.reports.protocols import check_protocols, protocols
    from ablate_kit.reports.results_file import results_document

    names = names_of(detections, "a file of detections")
    asked = tests.statistics()
    check_protocols(protocol or [])
    ious = decimals(iou, "--iou") if iou else []
    if deep_dissect and not output:
        raise UserError("--deep-dissect writes files; give a folder with -o")
    if output:
        check_free(output)
    against = _against(annotations, voc, split, voc_classes, difficult, yolo, yolo_root)
    warn(against.notes)
    if not len(against.truth):
        none = f"none of the {len(against.truth.image_ids):,} images has an object"
        raise UserError(
            f"{annotations or voc or yolo}: {none}, so there is nothing to score against"
        )
    clusters = clusters_of(asked.cluster, against.files) if asked.cluster else None
    truth = replace(against.truth, max_detections=max_detections, clusters=clusters)
    against = replace(against, truth=truth)
    if class_names and not any(uses_class_names(path) for path in detections):
        raise UserError(
            "--class-names names the class numbers of YOLO's text files and of pickles, and none "
            "is given; COCO results have category ids"
        )
    numbered = (
        [line.strip() for line in read_lines(class_names) if line.strip()] if class_names else None
    )
    with TemporaryDirectory(prefix="ablate-") as place:
        spill = Spill(Path(place))
        results: list[Result] = []
        threshold: Calibration | None = None
        for path, name in zip(detections, names, strict=True):
            found, notes = read_dump(
                path,
                against,
                boxes=boxes,
                class_names=numbered,
                skip_bad=skip_bad,
                unpickle=read_plain,
            )
            warn(notes)
            result = Result.of(
                name,
                "detections",
                against.truth,
                found,
                threshold=threshold,
                fixed_threshold=score_threshold,
            )
            threshold = result.evaluation.thresholds.calibration
            # Of several, the next one takes its place in memory.
            results.append(replace(result, load=spill.keep(found)) if len(names) > 1 else result)
        dumps = Loaded({one.name: one.load for one in results})
        other_tables, other_numbers = protocols(protocol or [], ious, against.truth, dumps)

        def write_more(place: Path) -> None:
            error_analysis.write_details(place, against.truth, results)
            if deep_dissect:
                error_analysis.RESULT_FILES["deep_dissect"](place / "deep_dissect", results)
            if any(other_numbers.values()):
                write_json(place / "protocols.json", other_numbers)

        compared = compare(against.truth, results, asked)
        where = annotations or voc or yolo or Path()
        held = [("annotations", where), *(("detections", path) for path in detections)]
        kind = "coco" if annotations else "voc" if voc else "yolo"
        data = {"kind": kind, "annotations" if annotations else "root": str(where), "split": split}
        read = origin([source(role, path) for role, path in held], data)
        if output:
            write_report(output, results, compared, read, write_more)
        if as_json:
            found_numbers = results_document(results, compared, read)
            for name, value in found_numbers["variants"].items():
                value["protocols"] = other_numbers[name] or None
            print_json(found_numbers)
            return
        changed = [
            error_analysis.changes_table(names[0], name, found)
            for name, found in error_analysis.compared(against.truth, results)
        ]
        own = tables.for_terminal(results, compared, top=top)
        printed = [*own, *changed, *other_tables]
        say_lines("\n\n".join(table.text() for table in printed))
        if output:
            say(f"written to {output}: results.json, tables, per class, curves, confusion, changes")


def _against(
    annotations: Path | None,
    voc: Path | None,
    split: str | None,
    voc_classes: Path | None,
    difficult: str | None,
    yolo: Path | None,
    yolo_root: Path | None,
) -> "AnnotatedImages":
    from ablate_kit.metrics.detection_files import AnnotatedImages
    from ablate_kit.metrics.detection_files.annotated_images import stems
    from ablate_kit.models.annotations import read_annotations

    if sum(map(bool, (annotations, voc, yolo))) != 1:
        raise UserError("give what to score against: --annotations, --voc with --split, or --yolo")
    if annotations:
        if split or voc_classes or yolo_root:
            raise UserError("--split, --voc-classes and --yolo-root do not go with --annotations")
        return read_annotations(annotations, difficult or "ignore")
    from ablate_kit.models.truth import ground_truth
    from detector.data.dataset import notes_on

    files_given = AnnotatedFiles(
        voc=voc,
        split=split,
        yolo=yolo,
        yolo_root=yolo_root,
        voc_classes=voc_classes,
        difficult=difficult,
    )
    dataset = files_given.given().dataset()
    files = [dataset.annotations(index).file_name for index in range(len(dataset))]
    return AnnotatedImages(ground_truth(dataset), stems(files), notes_on(dataset), files)
