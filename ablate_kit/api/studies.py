"""A study from Python: a sweep that plans itself, and says what it found."""

from os import PathLike
from pathlib import Path

from ablate_kit.api.given import check_is, evaluation_of
from ablate_kit.api.images import Images
from ablate_kit.api.keywords import by_keyword, in_python
from ablate_kit.api.model import Model
from ablate_kit.api.sweep_result import SweepResult
from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.metrics.uncertainty.verdict import MARGIN
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.shown_progress import shown


@by_keyword()
def study(
    model: Model,
    data: Images,
    *,
    output: str | PathLike[str],
    budget: str = "10m",
    margin: float = MARGIN,
    cluster: str | None = None,
    score_threshold: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
    batch_size: int = 8,
    progress: Progress | bool = False,
) -> SweepResult:
    """What matters in a detector: its parts, cut coarse to fine within a budget.

    Args:
        output: folder of the run, which is continued where it was stopped; its report opens with
            the sentences and a map of the model.
        budget: ``60s``, ``10m``, ``2h``, or image passes as in ``5000 passes``.
        margin: a change of AP below it counts as free.
        cluster: images that belong together, as of ``sweep``.
        score_threshold: without labels, from which boxes of the model as it is stand for objects.
        max_detections: of a class that count in an image, and of an image that are kept.
        progress: True: a bar, or lines in a log. A ``Progress`` is told how many passes are ahead,
            and of each that is done.

    Returns:
        What was cut; ``sentences`` say what it comes to.

    Raises:
        UserError: a budget that cannot be read, or a folder that holds something else.

    Examples:
        >>> import ablate_kit as ak
        >>> model = ak.load("builtin:shapes_tiny")
        >>> found = ak.study(model, ak.shapes(), budget="2m", output="runs/s")  # doctest: +SKIP
        >>> print(*found.sentences, sep="\\n")  # doctest: +SKIP
    """
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.studies.budget import parse_budget
    from ablate_kit.studies.study_run import open_study
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.finished_runs.compared_run import compared_run
    from ablate_kit.sweeps.run_folder.ledger import Ledger

    check_is(model, Model, "ak.load")
    check_is(data, Images, "ak.coco, ak.voc, ak.yolo, ak.images or ak.shapes")
    folder = Path(output)
    evaluation = evaluation_of(
        batch_size=batch_size,
        margin=margin,
        cluster=cluster,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    notes: list[str] = []
    with (
        Ledger.locked(folder),
        model.section_beside(folder) as section,
        open_study(
            section,
            data.section,
            parse_budget(budget),
            evaluation,
            folder=folder,
            placement=Placement((model.device,)),
            adapter=model.adapter,
            tell=notes.append,
        ) as opened,
    ):
        with shown(progress, opened.sweep.batches) as display:
            outcome = opened.run(folder, "ablate_kit.study in Python", progress=display)
        ledger, images = outcome.ledger, opened.sweep.dataset
        write_sweep_report(ledger, images)
        said = (folder / "report" / "sentences.md").read_text(encoding="utf-8")
        seen = opened.sweep.recipe.data
    results = ledger.results()
    return SweepResult(
        results,
        compared_run(ledger, results, evaluation.statistics, classes=False).changes,
        ledger.truth(),
        [in_python(one) for one in (*notes, *outcome.notes)],
        folder,
        Images(images, seen),
        [in_python(one.removeprefix("* ")) for one in said.splitlines()],
    )
