"""Numbers of detectors, of their ablations, and of files of detections."""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.resample import check_batches
from ablate_kit.api.images import Images
from ablate_kit.api.model import Model
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import AnnotatedImages, read_dump
from ablate_kit.metrics.detection_files.annotated_images import stems
from ablate_kit.metrics.detections import MAX_DETECTIONS, GroundTruth
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.raced_results import compare_raced
from ablate_kit.metrics.result import Result, changes_of
from ablate_kit.metrics.uncertainty.bootstrap import RESAMPLES
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import MARGIN
from ablate_kit.models.classes import unmatched_classes
from ablate_kit.models.own_objects import looked_at_for
from ablate_kit.models.truth import crowded, ground_truth
from ablate_kit.sweeps import api
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.worker import RunOptions
from ablate_kit.sweeps.fingerprint import data_digest, fingerprint_of
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.recipes.runnable_section import runnable_section
from ablate_kit.sweeps.recipes.sweep_recipe import EvaluationSettings as Settings
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, load_sweep
from ablate_kit.sweeps.run import UNWATCHED, Progress
from ablate_kit.sweeps.run import sweep as evaluate_variants
from ablate_kit.sweeps.variant import Variant
from detector.data.dataset import check_scorable, is_labelled, notes_on

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepResult:
    """The unmodified model and its ablations, with every change against the former.

    Attributes:
        results: of the unmodified model, then of each ablation.
        changes: for each ablation the change of each metric; empty without resamples.
        truth: what detections were held against.
        notes: warnings, in words.
        folder: of the run, where it was given one.
        sentences: what a study says of it; none of a sweep.
    """

    results: list[Result]
    changes: list[dict[str, Change]]
    truth: GroundTruth
    notes: list[str]
    folder: Path | None = None
    images: Images | None = None
    sentences: list[str] = field(default_factory=list)

    def table(self) -> "pd.DataFrame":
        """A row for each variant, by name: ``kind``, and of each metric its value, its change
        against the unmodified model and the ends of the change's interval (``AP``, ``AP_change``,
        ``AP_low``, ``AP_high`` ...) and its adjusted p value; and the ``verdict`` on AP. Shares of
        1; NaN where undefined. On images without labels all are against the unmodified model's own
        boxes, with ``matched_iou``, ``class_flips``, ``lost_boxes`` and ``new_boxes`` on top."""
        import pandas as pd

        rows = []
        for i, one in enumerate(self.results):
            row: dict[str, object] = {"kind": one.kind}
            changed = self.changes[i - 1] if self.changes and i else {}
            fidelity = [m.key for m in MEASURES if m.key in one.evaluation.overall]
            for key in (*KEYS, *fidelity):
                row[key] = one.evaluation.overall[key]
                if changed:
                    values = changed[key].to_dict()
                    for part in ("change", "low", "high", "p_adjusted"):
                        row[f"{key}_{part}"] = values[part]
            if changed:
                row["verdict"] = changed["AP"].to_dict()["verdict"]
            rows.append(row)
        frame = pd.DataFrame(rows, index=[one.name for one in self.results])
        numbers = [name for name in frame.columns if name not in ("kind", "verdict")]
        return frame.astype(dict.fromkeys(numbers, "float64"))

    def report(self) -> Path:
        """Writes the report of a run that was given a folder; returns the path of its page.

        Raises:
            UserError: the sweep has no folder: give ``output``.
        """
        from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report

        if self.folder is None:
            raise UserError("a sweep without output keeps nothing to report on: give output=FOLDER")
        with Ledger.locked(self.folder):
            dataset = self.images.dataset if self.images else None
            write_sweep_report(Ledger.existing(self.folder), dataset)
        return self.folder / "report" / "report.html"


def sweep(
    model: Model,
    data: Images,
    ablations: Iterable[Ablation],
    *,
    output: str | PathLike[str] | None = None,
    batch_size: int = 8,
    score_threshold: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    margin: float = MARGIN,
    adjust: Adjust = "family",
    cluster: str | None = None,
    replay: bool = True,
    progress: Progress = UNWATCHED,
) -> SweepResult:
    """Evaluates a model and ablations of it; of each only what it changes is computed.

    Args:
        output: folder of the run, which is continued where it was stopped; by default all is kept
            in memory.
        score_threshold: of the numbers at a fixed score.
        max_detections: of a class that count in an image, and of an image that are kept.
        resamples: of the bootstrap over images that gives intervals; 0: none.
        seed: of its draws.
        margin: a change of AP below it counts as free.
        adjust: for several ablations: ``family`` (max-T) or ``fdr`` (false discovery rate).
        cluster: images that belong together, such as the frames of a video: a regular expression
            on file names, whose group names the video, or a .csv file with columns file,cluster.
        replay: False: every pass in full; the numbers are the same.
        progress: told how many passes are ahead, and of each that is done.

    Raises:
        UserError: ablations of one name that differ, a folder that holds something else, or an
            ablation that does not fit the model.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> model = ak.load(SHAPES_TINY)
        >>> cuts = model.modules("backbone.csi")
        >>> result = ak.sweep(model, ak.shapes(limit=4), cuts, resamples=0)
        >>> [one.name for one in result.results]
        ['unmodified', 'backbone.csi']
    """
    cuts = distinct(ablations)
    variants = [Variant.of(one) for one in cuts]
    options = RunOptions(replay=replay)
    statistics = Statistics(resamples, seed, margin, adjust, cluster)
    dataset = looked_at_for(data.dataset, model.classes)
    check_scorable(dataset)
    check_batches(cuts, len(data), batch_size)
    notes = [*notes_on(dataset), *unmatched_classes(model.classes, dataset.classes)]
    with ExitStack() as stack:
        store = None
        folder = None if output is None else Path(output)
        if folder is not None:
            stack.enter_context(Ledger.locked(folder))
            section = stack.enter_context(model.section_beside(folder))
            settings = Settings(
                batch_size=batch_size,
                score_threshold=score_threshold,
                max_detections=max_detections,
                cluster=cluster,
            )
            recipe = SweepRecipe.model_construct(
                model=section, data=data.section, evaluation=settings
            )
            with open_checkpoint(Path(section.checkpoint), section.weights) as checkpoint:
                inputs = fingerprint_of(
                    recipe, checkpoint, dataset, model.device, data_digest(dataset)
                )
            store = Ledger(folder, inputs)
        done = evaluate_variants(
            model.adapter,
            dataset,
            variants,
            store=store,
            fixed_threshold=score_threshold,
            batch_size=batch_size,
            max_detections=max_detections,
            cluster=cluster,
            options=options,
            progress=progress,
        )
        if store is not None:
            store.close(
                cuts,
                replace(statistics, resamples=resamples or RESAMPLES),
                data.section.model_dump(mode="json"),
                section.model_dump(mode="json"),
            )
    changes = changes_of(done.truth, done.results, statistics)
    notes += [*crowded(done.truth), *done.notes]
    return SweepResult(done.results, changes, done.truth, notes, folder, data)


def evaluate(
    model: Model, data: Images, *, batch_size: int = 8, score_threshold: float = 0.5
) -> Result:
    """Every metric of a model, and its detections.

    What may not be meant, such as classes that the model does not have, is a ``UserWarning``.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> result = ak.evaluate(ak.load(SHAPES_TINY), ak.shapes(limit=4))
        >>> 0 <= result.evaluation.overall["AP"] <= 1
        True
    """
    if not is_labelled(data.dataset):
        raise UserError(
            "images without labels tell nothing of one model alone; ak.sweep holds ablations of it "
            "against it"
        )
    found = sweep(
        model, data, [], batch_size=batch_size, score_threshold=score_threshold, resamples=0
    )
    _warn(found.notes)
    return found.results[0]


def score(
    path: str | PathLike[str],
    data: Images,
    *,
    threshold: float | None = None,
    score_threshold: float = 0.5,
) -> Result:
    """Every metric of a file (or folder) of detections, without a model.

    What may not be meant, such as boxes without area, is a ``UserWarning``.

    Args:
        path: COCO results, a VOC devkit folder, YOLO text ...; docs/score.md.
        threshold: calibrated score threshold; by default the one that suits these detections best.
        score_threshold: of the numbers at a fixed score.

    Raises:
        UserError: not a file of detections, or of other images.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.score("results.json", ak.coco("instances.json", "val2017"))  # doctest: +SKIP
    """
    from ablate_kit.checkpoints.pickle.plain_data import read_plain

    images = data.dataset
    files = [images.annotations(index).file_name for index in range(len(images))]
    against = AnnotatedImages(ground_truth(images), stems(files))
    found, notes = read_dump(Path(path), against, unpickle=read_plain)
    _warn(notes)
    return Result.of(
        Path(path).stem,
        "detections",
        against.truth,
        found,
        threshold=threshold,
        fixed_threshold=score_threshold,
    )


def run_recipe(
    recipe: str | PathLike[str],
    output: str | PathLike[str],
    *,
    trust_remote_code: bool = False,
    settings: Sequence[str] = (),
    progress: Progress = UNWATCHED,
) -> SweepResult:
    """The sweep of a YAML recipe, continued where it was stopped; as ``ablate sweep``.

    Args:
        output: folder of the run.
        settings: changes of the recipe, such as ``data.limit=50``.

    Raises:
        UserError: the recipe, or what it names, is not as it should be.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.run_recipe("recipes/sweep/shapes_tiny.yaml", "runs/heads")  # doctest: +SKIP
    """
    plan = load_sweep(Path(recipe), list(settings))
    placement = Placement(trust_remote_code=trust_remote_code)
    with runnable_section(plan.model, Path(output), trusted=trust_remote_code) as section:
        plan = plan.model_copy(update={"model": section})
        outcome = api.run(plan, Path(output), placement, progress=progress)
    ledger = outcome.ledger
    results, truth = ledger.results(), ledger.truth()
    race, statistics = ledger.manifest().race, plan.evaluation.statistics
    if race:
        truth = truth_of_first(truth, results[0].images)
        changes = list(compare_raced(truth, results, race.looks, statistics).changes)
    else:
        changes = changes_of(truth, results, statistics)
    images = Images(plan.dataset(), plan.data)
    return SweepResult(results, changes, truth, list(outcome.notes), ledger.folder, images)


def distinct(ablations: Iterable[Ablation]) -> list[Ablation]:
    """Each ablation once; refuses two of one name that differ."""
    found: dict[str, Ablation] = {}
    for one in ablations:
        if found.setdefault(one.name, one).digest != one.digest:
            raise UserError(f'two ablations that differ are named "{one.name}"')
    return list(found.values())


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=3)
