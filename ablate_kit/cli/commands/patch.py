"""``ablate patch``: which modules make the difference between two checkpoints."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.checkpoints.naming import names_of_two
from ablate_kit.cli.common_options import BatchSize, Device, NoReplay, output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.early import check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.number_lists import numbers
from ablate_kit.cli.output import (
    reporting,
    resumable,
    say,
    say_lines,
    say_where,
    this_command,
    warn,
)
from ablate_kit.cli.statistics_options import StatisticsOptions, Top
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.sweeps.shown_progress import watched


def patch(
    first: Annotated[Path, Argument(help="Checkpoint that modules are put into.")],
    donor: Annotated[Path, Argument(help="Checkpoint of the same model: the donor.")],
    *,
    data: DataOptions,
    depth: Annotated[
        int | None,
        Option(
            help="Levels of a name that make a module; by default the fewest that tell three "
            "apart.",
            min=1,
        ),
    ] = None,
    alpha: Annotated[
        str, Option(help="Points of the line from the first (0) to the donor (1) and beyond.")
    ] = "0.25,0.5,0.75,1.25",
    model: ModelOptions,
    donor_weights: Annotated[
        str | None, Option(help="Which weights of the donor; by default as --weights.")
    ] = None,
    batch_size: BatchSize = 8,
    device: Device = "cpu",
    tests: StatisticsOptions,
    top: Top = None,
    no_replay: NoReplay = False,
    output: Annotated[Path | None, output_to("Folder of the run; runs/patch.")] = None,
) -> None:
    """Put modules of one checkpoint into another: which of them make the difference?"""
    check_there(first, donor)
    names = names_of_two(first, donor, model.weights, donor_weights)
    images = data.given()
    points = list(dict.fromkeys(numbers(alpha, "--alpha", "0.5,1.5"))) if alpha else []
    asked = tests.statistics()
    if not asked.resamples:
        raise UserError("--resamples is 0: then nothing tells a difference from chance")
    from ablate_kit.ablations.kinds.donor_modules import Patch
    from ablate_kit.reports.patch_words import account, interplay
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.backends.worker import RunOptions
    from ablate_kit.sweeps.open_sweep import open_sweep
    from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
    from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
    from ablate_kit.sweeps.run_folder.ledger import Ledger
    from ablate_kit.sweeps.run_sweep import run_sweep
    from ablate_kit.sweeps.sweep_folder import begin

    placement = Placement((device,), trust_remote_code=model.trust_remote_code)
    folder = output or Path("runs/patch")
    with ExitStack() as stack:
        stack.enter_context(resumable(folder))
        section, other = (
            stack.enter_context(one.runnable(folder, trusted=model.trust_remote_code))
            for one in (
                model.section(first),
                replace(model, weights=donor_weights or model.weights).section(donor),
            )
        )
        line = Patch(donor=other.checkpoint, donor_weights=other.weights, depth=depth, alpha=points)
        recipe = SweepRecipe(
            model=section,
            data=images,
            ablations=[line],
            evaluation=EvaluationSettings(
                batch_size=batch_size,
                resamples=asked.resamples,
                margin=asked.margin,
                adjust=asked.adjust,
                cluster=asked.cluster,
            ),
        )
        opened = stack.enter_context(open_sweep(recipe, placement, threads=Ledger.threads(folder)))
        warn(opened.notes)
        ledger = begin(opened, folder, this_command())
        donated = opened.donation.variants
        own = (one.factors["of"] for one in donated if "of" in one.factors)
        differ = int(next(own, 1))
        many = f"{counted(differ, 'module')} differ{'s' * (differ == 1)}"
        what = counted(len(donated), "variant")
        say(f"{many}, {what} on {counted(len(opened.dataset), 'image')}: {folder}")
        with watched(opened.batches) as display:
            warn(run_sweep(opened, ledger, RunOptions(replay=not no_replay), display).notes)
        with reporting():
            written = write_sweep_report(ledger, opened.dataset, top=top)
        results = ledger.results()
        together = interplay(results, written.compared)
        told = account(names[0], names[1], results, written.compared.changes, together)
        say_lines("\n".join(told))
        say_lines(written.table.text())
        say_where(folder)
