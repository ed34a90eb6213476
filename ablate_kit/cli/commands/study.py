"""``ablate study``: from a checkpoint to the answer, in one command."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import name_of
from ablate_kit.cli.common_options import BatchSize, Device, PlanOnly, output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import (
    reporting,
    resumable,
    say,
    say_lines,
    say_where,
    this_command,
    warn,
)
from ablate_kit.cli.smaller_command import smaller_command
from ablate_kit.cli.statistics_options import OWN_SCORE, Cluster, Margin, MaxDetections
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.studies.budget import parse_budget
from ablate_kit.sweeps.shown_progress import watched

if TYPE_CHECKING:
    from ablate_kit.studies.study_run import OpenStudy

_FAR_MORE = 1.5  # times the images of a study that goes on


def study(
    checkpoint: Annotated[Path, Argument(help="File or folder, or builtin:shapes_tiny.")],
    *,
    data: DataOptions,
    budget: Annotated[
        str,
        Option(
            help="What it may take: a time (60s, 10m, 2h) or image passes ('5000 passes'). A "
            "larger one goes on with a study that has ended."
        ),
    ] = "10m",
    margin: Margin = None,
    cluster: Cluster = None,
    score_threshold: Annotated[float, Option(help=f"{OWN_SCORE}.", min=0, max=1)] = 0.5,
    max_detections: MaxDetections = 100,
    output: Annotated[
        Path | None, output_to("Folder to write; runs/CHECKPOINT-study by default.")
    ] = None,
    model: ModelOptions,
    dry_run: PlanOnly = False,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
) -> None:
    """Say what matters in a detector, by cutting its parts coarse to fine within a budget."""
    check_there(checkpoint)
    images, asked = data.given(), parse_budget(budget)
    from ablate_kit.metrics.uncertainty.verdict import MARGIN
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.studies.study_run import open_study
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

    evaluation = EvaluationSettings(
        batch_size=batch_size,
        margin=MARGIN if margin is None else margin,
        cluster=cluster,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    folder = output or Path("runs") / f"{name_of(checkpoint)}-study"
    placement = Placement((device,), trust_remote_code=model.trust_remote_code)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(resumable(folder))
        section = stack.enter_context(
            model.section(checkpoint).runnable(
                None if dry_run else folder, trusted=model.trust_remote_code
            )
        )
        opened = stack.enter_context(
            open_study(
                section, images, asked, evaluation,
                folder=None if dry_run else folder, placement=placement,
                tell=lambda note: warn([note]),
            )
        )  # fmt: skip
        _say_plan(opened, dry_run)
        if dry_run:
            return
        if opened.again:
            many = len(opened.notes.rounds)
            rounds = f"{counted(many, 'round')} {'is' if many == 1 else 'are'}"
            others = ""
            if opened.fitting > _FAR_MORE * opened.images:
                others = f"; in a new folder this budget would take {opened.fitting:,}"
            say(
                f"going on: {rounds} chosen already, on these "
                f"{counted(opened.images, 'image')}{others}"
            )
        with watched(opened.sweep.batches) as display:
            outcome = opened.run(folder, this_command(), progress=display)
        warn(outcome.notes)
        with reporting():
            compared = write_sweep_report(outcome.ledger, opened.sweep.dataset).compared
        said = (folder / "report" / "sentences.md").read_text(encoding="utf-8").splitlines()
        short, *rest = said
        say_lines("\n" + "".join(f"{line}\n" for line in rest))
        if opened.notes.rounds:
            again = shlex.join(["ablate", "sweep", str(folder / "recipe.yaml")])
            say(f"the same again: {again}{model.beside_recipe()}")
            try:
                smaller = smaller_command(
                    opened.sweep, folder, compared, trusted=model.trust_remote_code
                )
            except UserError as error:
                smaller = f"no smaller model: {error}"
            if smaller:
                say(smaller)
        say_where(folder, short.removeprefix("* "))


def _say_plan(opened: "OpenStudy", whole: bool) -> None:
    """What would be cut how, on how many images, and what that takes."""
    from ablate_kit.reports.study_reports.plan_tables import cuts_table, levels_table
    from ablate_kit.reports.sweep_reports.plan_text import much_decoding
    from ablate_kit.studies.budget_plan import affordable

    made = opened.outline
    fits = affordable(made, opened.budget, opened.images)
    say_lines(levels_table(made, fits, opened.images, opened.budget).text())
    for line in much_decoding(made.decoding, "cut"):
        say(line)
    if len(fits) < len(made.candidates):
        say("inside of parts that are found free nothing is cut, which makes room for the rest")
    if whole:
        say_lines(cuts_table(made).text())
