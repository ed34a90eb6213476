"""``ablate score``: detections that were written down before, by whatever detector."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import names_of
from ablate_kit.cli.common_options import output_to
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
from ablate_kit.cli.number_lists import numbers
from ablate_kit.cli.origin import origin, source
from ablate_kit.cli.output import print_json, say, say_lines, warn, write_json
from ablate_kit.cli.statistics_options import FIXED_SCORE, StatisticsOptions, Top
from ablate_kit.errors import UserError
from detector.errors import check_can_write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ablate_kit.metrics.calibration import Calibration
    from ablate_kit.metrics.detection_files import AnnotatedImages
    from ablate_kit.metrics.detections import Detections, GroundTruth
    from ablate_kit.metrics.result import Result
    from ablate_kit.metrics.spill import Spill


@dataclass(frozen=True, kw_only=True)
class Against:
    """What detections are compared with: annotations, whose images need not be there."""

    annotations: Annotations = None
    voc: Devkit = None
    split: Split = None
    yolo: YoloYaml = None
    yolo_root: YoloRoot = None
    voc_classes: VocClasses = None
    difficult: Difficult = None

    @property
    def place(self) -> Path:
        return self.annotations or self.voc or self.yolo or Path()

    def noted(self) -> dict[str, str | None]:
        """As results name it."""
        kind = "coco" if self.annotations else "voc" if self.voc else "yolo"
        where = "annotations" if self.annotations else "root"
        return {"kind": kind, where: str(self.place), "split": self.split}

    def open(self) -> "AnnotatedImages":
        from ablate_kit.models.labels.annotations import annotated_images, read_annotations

        if sum(map(bool, (self.annotations, self.voc, self.yolo))) != 1:
            raise UserError(
                "give what to score against: --annotations, --voc with --split, or --yolo"
            )
        if self.annotations:
            if self.split or self.voc_classes or self.yolo_root:
                raise UserError(
                    "--split, --voc-classes and --yolo-root do not go with --annotations"
                )
            return read_annotations(self.annotations, self.difficult or "ignore")
        return annotated_images(AnnotatedFiles(**asdict(self)).given().dataset())


def score(
    detections: Annotated[
        list[Path],
        Argument(
            help="COCO results (.json, .json.gz), .npz, folder of VOC's comp4_det_test_<class>.txt "
            "or of YOLO's text files, pickle of MMDetection or Detectron2; the first is the one "
            "others are compared with."
        ),
    ],
    *,
    reference: Against,
    boxes: Annotated[
        str | None, Option(help="Boxes of the JSON files: xywh (COCO's own) or xyxy.")
    ] = None,
    class_names: Annotated[
        Path | None,
        Option(help="Names of the classes that YOLO's files or a pickle number, one to a line."),
    ] = None,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave out rows that cannot be scored.")
    ] = False,
    score_threshold: Annotated[float, Option(help=f"{FIXED_SCORE}.", min=0, max=1)] = 0.5,
    iou: Annotated[str | None, Option(help="Also AP at these IoU thresholds: 0.3,0.5.")] = None,
    protocol: Annotated[
        list[str] | None,
        Option(help="Also the mAP of this protocol: voc or thesis; may be repeated."),
    ] = None,
    deep_dissect: Annotated[
        bool, Option("--deep-dissect", help="Also write the four files of Deep Dissect.")
    ] = False,
    max_detections: Annotated[
        int, Option(help="Detections of a class that count in an image.", min=11)
    ] = 100,
    tests: StatisticsOptions,
    top: Top = None,
    output: Annotated[Path | None, output_to("Folder for tables, figure and JSON.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Score files of detections: what 'ablate eval' reports, without a model."""
    check_files(
        *detections, reference.annotations, reference.yolo, reference.voc_classes, class_names
    )
    from ablate_kit.checkpoints.pickle.plain_data import read_plain
    from ablate_kit.metrics.clusters import clusters_of
    from ablate_kit.metrics.detection_files import read_dump
    from ablate_kit.metrics.detection_files.read_detections import uses_class_names
    from ablate_kit.metrics.detection_files.text_files import read_lines
    from ablate_kit.metrics.spill import Loaded, Spill
    from ablate_kit.metrics.uncertainty.comparison import compare
    from ablate_kit.reports import error_analysis
    from ablate_kit.reports.folder import write_report
    from ablate_kit.reports.protocols import check_protocols, protocols
    from ablate_kit.reports.results_file import results_document
    from ablate_kit.reports.terminal_tables import for_terminal

    names = names_of(detections, "a file of detections")
    tests.check(len(names), top, as_json)
    asked = tests.statistics()
    check_protocols(protocol or [])
    ious = numbers(iou, "--iou") if iou else []
    if deep_dissect and not output:
        raise UserError("--deep-dissect writes files; give a folder with -o")
    if output:
        check_can_write(output)
    against = reference.open()
    warn(against.notes)
    if not len(against.truth):
        none = f"none of the {len(against.truth.image_ids):,} images has an object"
        raise UserError(f"{reference.place}: {none}, so there is nothing to score against")
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
        read = partial(
            read_dump,
            against=against,
            boxes=boxes,
            class_names=numbered,
            skip_bad=skip_bad,
            unpickle=read_plain,
        )
        files = dict(zip(names, detections, strict=True))
        # Of several, the next one takes its place in memory.
        spill = Spill(Path(place)) if len(files) > 1 else None
        results = _results(files, read, against.truth, score_threshold, spill)
        dumps = Loaded({one.name: one.load for one in results})
        other_tables, other_numbers = protocols(protocol or [], ious, against.truth, dumps)

        def write_more(place: Path) -> None:
            error_analysis.write_details(place, against.truth, results)
            if deep_dissect:
                error_analysis.RESULT_FILES["deep_dissect"](place / "deep_dissect", results)
            if any(other_numbers.values()):
                write_json(place / "protocols.json", other_numbers)

        compared = compare(against.truth, results, asked)
        held = [("annotations", reference.place), *(("detections", path) for path in detections)]
        made_from = origin([source(role, path) for role, path in held], reference.noted())
        if output:
            write_report(output, results, compared, made_from, write_more)
        if as_json:
            found_numbers = results_document(results, compared, made_from)
            for name, value in found_numbers["variants"].items():
                value["protocols"] = other_numbers[name] or None
            print_json(found_numbers)
            return
        changed = [
            error_analysis.changes_table(names[0], name, found)
            for name, found in error_analysis.compared(against.truth, results)
        ]
        own = for_terminal(results, compared, top=top)
        printed = [*own, *changed, *other_tables]
        say_lines("\n\n".join(table.text() for table in printed))
        if output:
            say(f"written to {output}: results.json, tables, per class, curves, confusion, changes")


def _results(
    files: "Mapping[str, Path]",
    read: "Callable[[Path], tuple[Detections, Sequence[str]]]",
    truth: "GroundTruth",
    fixed_threshold: float,
    spill: "Spill | None",
) -> "list[Result]":
    """Of each file, at the score threshold that the first is calibrated to."""
    from ablate_kit.metrics.result import Result

    results: list[Result] = []
    threshold: Calibration | None = None
    for name, path in files.items():
        found, notes = read(path)
        warn(notes)
        result = Result.of(
            name, "detections", truth, found, threshold=threshold, fixed_threshold=fixed_threshold
        )
        threshold = result.evaluation.thresholds.calibration
        results.append(replace(result, load=spill.keep(found)) if spill else result)
    return results
