"""Sweeps from Python: of a model and ablations, or of a recipe."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.resample import check_batches
from ablate_kit.api.given import ablations_of, check_is, evaluation_of
from ablate_kit.api.images import Images
from ablate_kit.api.keywords import by_keyword, in_python
from ablate_kit.api.model import Model
from ablate_kit.api.sweep_result import SweepResult
from ablate_kit.checkpoints.hub import downloads
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.metrics.first_images import truth_of_first
from ablate_kit.metrics.uncertainty.bootstrap import RESAMPLES
from ablate_kit.metrics.uncertainty.comparison import compare
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.verdict import MARGIN
from ablate_kit.models.labels.classes import unmatched_classes
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.models.labels.truth import crowded
from ablate_kit.sweeps import run_sweep
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.worker import RunOptions
from ablate_kit.sweeps.finished_runs.compared_run import compared_run
from ablate_kit.sweeps.provenance.about import About
from ablate_kit.sweeps.provenance.data_digest import data_digest
from ablate_kit.sweeps.provenance.fingerprint import fingerprint_of
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, load_sweep
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.run import sweep as evaluate_variants
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.shown_progress import shown
from ablate_kit.sweeps.variants.tied_names import notes_on_tied
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.dataset import check_scorable, notes_on


@by_keyword()
def sweep(
    model: Model,
    data: Images,
    ablations: Ablation | Iterable[Ablation],
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
    progress: Progress | bool = False,
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
        progress: True: a bar, or lines in a log. A ``Progress`` is told how many passes are ahead,
            and of each that is done.

    Raises:
        UserError: ablations of one name that differ, a folder that holds something else, or an
            ablation that does not fit the model; a model that another thread uses.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> model = ak.load(SHAPES_TINY)
        >>> cuts = model.modules("backbone.csi")
        >>> result = ak.sweep(model, ak.shapes(limit=4), cuts, resamples=0)
        >>> [one.name for one in result.results]
        ['unmodified', 'backbone.csi']
    """
    check_is(model, Model, "ak.load")
    check_is(data, Images, "ak.coco, ak.voc, ak.yolo, ak.images or ak.shapes")
    cuts = _distinct(ablations)
    variants = [Variant.of(one) for one in cuts]
    options = RunOptions(replay=replay)
    evaluation = evaluation_of(
        batch_size=batch_size,
        score_threshold=score_threshold,
        max_detections=max_detections,
        resamples=resamples if resamples != 0 else RESAMPLES,
        seed=seed,
        margin=margin,
        adjust=adjust,
        cluster=cluster,
    )
    statistics = replace(evaluation.statistics, resamples=resamples)
    dataset = looked_at_for(data.dataset, model.classes)
    check_scorable(dataset)
    check_batches(cuts, len(data), batch_size)
    notes = [*notes_on(dataset), *unmatched_classes(model.classes, dataset)]
    notes += notes_on_tied(model.adapter, cuts)
    digest = data_digest(dataset)
    notes += digest.notes(cluster)
    with ExitStack() as stack:
        store = None
        folder = None if output is None else Path(output)
        if folder is not None:
            stack.enter_context(Ledger.locked(folder))
            section = stack.enter_context(model.section_beside(folder))
            recipe = SweepRecipe.model_construct(
                model=section, data=data.section, evaluation=evaluation
            )
            with section.opened() as checkpoint:
                inputs = fingerprint_of(recipe, checkpoint, dataset, model.device, digest)
            store = Ledger(folder, inputs)
            command = "ablate_kit.sweep in Python"
            About.of(recipe, dataset, command, inputs["framework"]).keep(folder)
        with shown(progress, range(0, len(data), batch_size)) as display:
            done = evaluate_variants(
                model.adapter,
                dataset,
                variants,
                evaluation,
                store=store,
                options=options,
                progress=display,
            )
        if store is not None:
            store.close(
                cuts,
                evaluation.statistics,
                data.section.model_dump(mode="json"),
                section.model_dump(mode="json"),
            )
    changes = compare(done.truth, done.results, statistics, classes=False).changes
    notes += [*crowded(done.truth), *done.notes]
    told = [in_python(one) for one in notes]
    return SweepResult(done.results, changes, done.truth, told, folder, data)


@by_keyword()
def run_recipe(
    recipe: str | PathLike[str],
    output: str | PathLike[str],
    *,
    trust_remote_code: bool = False,
    settings: Sequence[str] = (),
    allow_download: bool = False,
    progress: Progress | bool = False,
) -> SweepResult:
    """The sweep of a YAML recipe, continued where it was stopped; as ``ablate sweep``.

    Args:
        output: folder of the run.
        settings: changes of the recipe, such as ``data.limit=50``.
        allow_download: may what is not in the hub's cache be downloaded?

    Raises:
        UserError: the recipe, or what it names, is not as it should be.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.run_recipe("recipes/sweep/shapes_tiny.yaml", "runs/heads")  # doctest: +SKIP
    """
    plan = load_sweep(Path(recipe), list(settings))
    placement = Placement(trust_remote_code=trust_remote_code)
    with (
        downloads(allowed=allow_download),
        plan.model.runnable(Path(output), trusted=trust_remote_code) as section,
    ):
        plan = plan.model_copy(update={"model": section})
        with shown(progress) as display:
            outcome = run_sweep.run(plan, Path(output), placement, progress=display)
    ledger = outcome.ledger
    results = ledger.results()
    truth = truth_of_first(ledger.truth(), results[0].images)  # of a race, what all have seen
    changes = compared_run(ledger, results, plan.evaluation.statistics, classes=False).changes
    images = Images(plan.dataset(), plan.data)
    told = [in_python(one) for one in outcome.notes]
    return SweepResult(results, changes, truth, told, ledger.folder, images)


def _distinct(ablations: Ablation | Iterable[Ablation]) -> list[Ablation]:
    """Each ablation once; refuses two of one name that differ."""
    found: dict[str, Ablation] = {}
    for one in ablations_of(ablations):
        if found.setdefault(one.name, one).digest != one.digest:
            raise UserError(f'two ablations that differ are named "{one.name}"')
    return list(found.values())
