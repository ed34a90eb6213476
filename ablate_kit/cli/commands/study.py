"""``ablate study``: from a checkpoint to the answer, in one command."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.common_options import BatchSize, Device, PlanOnly
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
    watched,
)
from ablate_kit.cli.smaller_command import smaller_command
from ablate_kit.cli.statistics_options import OWN_SCORE, Cluster, Margin, MaxDetections
from ablate_kit.cli.time_left import duration
from ablate_kit.errors import UserError
from ablate_kit.models.naming import name_of
from ablate_kit.plural import counted
from ablate_kit.studies.budget import parse_budget

if TYPE_CHECKING:
    from ablate_kit.studies.study_run import OpenStudy

_FAR_MORE = 1.5  # times the images of a study that goes on


def study(
    checkpoint: Annotated[Path, typer.Argument(help="File or folder, or builtin:shapes_tiny.")],
    *,
    data: DataOptions,
    budget: Annotated[
        str,
        typer.Option(
            help="What it may take: a time (60s, 10m, 2h) or image passes ('5000 passes'). A "
            "larger one goes on with a study that has ended."
        ),
    ] = "10m",
    margin: Margin = None,
    cluster: Cluster = None,
    score_threshold: Annotated[float, typer.Option(help=f"{OWN_SCORE}.", min=0, max=1)] = 0.5,
    max_detections: MaxDetections = 100,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to write; runs/CHECKPOINT-study by default."),
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
    from ablate_kit.reports.table import Table
    from ablate_kit.studies.budget_plan import affordable
    from ablate_kit.sweeps.timed_pass import MUCH

    made = opened.outline
    fits = affordable(made, opened.budget, opened.images)
    count = len({one.cut.variant for one in made.candidates})
    rows = []
    seen: set[str] = set()
    for depth, every in made.levels():
        level = [one for one in every if one.cut.variant not in seen]  # alike cuts are one
        seen |= {one.cut.variant for one in level}
        if not level:
            continue
        heads = sum(one.cut.head is not None for one in level)
        hows = [one.cut.how for one in level]
        inside = sum(one in fits for one in level)
        rows.append(
            (
                "top-level parts" if depth == 0 else f"inside, level {depth}",
                str(len(level) - heads),
                str(heads),
                *(str(hows.count(how)) for how in ("removed", "mean", "zero")),
                duration(made.cost(level, opened.images)),
                str(inside),
            )
        )
    header = ("what", "parts", "heads", "removed", "mean", "zero", "at most", "fit")
    title = (
        f"{counted(count, 'cut')} on {opened.images:,} of {counted(made.total, 'image')}; budget "
        f"{opened.budget}; {(made.time.forward + made.time.decoding) * 1000:.0f} ms for an image"
    )
    say_lines(Table(title, header, tuple(rows), ("what",)).text())
    if made.decoding >= MUCH:
        say(f"decoding takes {made.decoding:.0%} of a cut's time; replay saves none of it")
    if len(fits) < len(made.candidates):
        say("inside of parts that are found free nothing is cut, which makes room for the rest")
    if whole:
        cells = [
            ("  " * one.depth + (one.cut.part if one.cut.head is None else f"head {one.cut.head}"),
             one.kind, one.cut.how, f"{one.share:.0%}")
            for one in made.candidates
        ]  # fmt: skip
        say_lines(Table("", ("part", "kind", "cut", "of a pass"), tuple(cells),
                        ("part", "kind", "cut")).text())  # fmt: skip
