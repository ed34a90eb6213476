"""``ablate replicate``: the cuts of a run in other checkpoints, and what holds in all of them."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.common_options import Device
from ablate_kit.cli.early import check_run, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import resumable, say, say_lines, this_command, warn
from ablate_kit.cli.statistics_options import Adjusted, Margin, Top, statistics
from ablate_kit.cli.sweep_run import ledger_of, watched
from ablate_kit.errors import UserError
from ablate_kit.file_names import files_in
from ablate_kit.models.naming import names_of
from ablate_kit.plural import counted

if TYPE_CHECKING:
    from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe


def replicate(
    run: Annotated[Path, typer.Argument(help="Folder of a sweep or study that has ended.")],
    others: Annotated[
        list[Path],
        typer.Argument(help="Checkpoints, such as other seeds of the training; or folders of "
                       "sweeps of the same cuts.", metavar="CHECKPOINT|RUN..."),
    ],
    *,
    model: ModelOptions,
    device: Device = "cpu",
    margin: Margin = None,
    adjust: Adjusted = None,
    top: Top = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the other runs and of the report; "
                     "RUN-replicated."),
    ] = None,
) -> None:  # fmt: skip
    """Make the cuts of a run in other checkpoints, too: which conclusions hold in all of them?"""
    check_run(run)
    runs = [(one / "inputs.json").is_file() for one in others]
    check_there(*(one for one, is_run in zip(others, runs, strict=True) if not is_run))
    from ablate_kit.reports.replication_reports.replication_folder import write_replication
    from ablate_kit.reports.replication_reports.replication_table import replication_table
    from ablate_kit.reports.replication_reports.replication_words import replication_sentences
    from ablate_kit.sweeps.ledger import Ledger
    from ablate_kit.sweeps.replication import claim, refuse_other, refuse_unfit, replication

    first = Ledger.existing(run)
    refuse_unfit(first)
    asked = statistics(margin, adjust, first.manifest().statistics)
    given = [run, *others]
    names = names_of(given, "a checkpoint or run")
    of_models = [
        _model(one) if known else one for one, known in zip(given, [True, *runs], strict=True)
    ]
    if len({*map(str, of_models)}) == len(given):
        names = names_of(of_models, "a checkpoint")
    folder = output or run.with_name(f"{run.name}-replicated")
    refuse_other(folder)
    plain = [one.replace("/", "-") for one in names[1:]]
    where = files_in(folder, plain, what="checkpoints", taken=("report", "replication"))
    recipe = None if all(runs) else _recipe(run)
    ledgers = [first]
    for other, is_run, place in zip(others, runs, where, strict=True):
        if is_run:
            ledgers.append(Ledger.existing(other))
        elif recipe is not None:
            begin = partial(claim, folder, run, others)
            _swept(recipe, other, model, device, place, begin)
            ledgers.append(Ledger.existing(place))
    found = replication(ledgers, names, asked)
    notes = []
    if found.only_in_some:
        left = counted(len(found.only_in_some), "cut")
        notes.append(f"not all runs have {left}, such as {found.only_in_some[0]}")
    claim(folder, run, others)
    write_replication(folder / "report", found, this_command(), notes)
    warn(notes)
    say_lines(replication_table(found, top).text())
    say_lines("\n" + "".join(f"* {one}\n" for one in replication_sentences(found)))
    say(f"report: {folder / 'report' / 'report.html'}")


def _model(run: Path) -> Path:
    """What a run is of; the run itself where it does not say."""
    from ablate_kit.sweeps.ledger import Ledger

    ledger = Ledger.existing(run)
    told = ledger.manifest().model if ledger.finished else None
    return Path(str(told["checkpoint"])) if told and told.get("checkpoint") else run


def _recipe(run: Path) -> "SweepRecipe":
    from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

    path = run / "recipe.yaml"
    if not path.exists():
        raise UserError(f"{run} has no recipe.yaml, by which its cuts could be made again")
    recipe = load_sweep(path)
    for name in ("screen", "patch"):
        if getattr(recipe, name):
            raise UserError(f"{path}: {name} is about this checkpoint alone; give a run without")
    return recipe


def _swept(
    recipe: "SweepRecipe",
    checkpoint: Path,
    model: ModelOptions,
    device: str,
    folder: Path,
    begin: Callable[[], None],
) -> None:
    """The sweep of another checkpoint; what is there already is kept."""
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.sweeps.api import open_sweep
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.ledger import Ledger

    trusted, own = model.trust_remote_code, recipe.model
    section = own.model_copy(
        update={
            "checkpoint": str(checkpoint),
            "framework": model.model or own.framework,
            "weights": model.weights or own.weights,
            "class_names": model.class_names or own.class_names,
        }
    )
    placement = Placement((device,), trust_remote_code=trusted)
    with ExitStack() as stack:
        stack.enter_context(resumable(folder))
        runs = stack.enter_context(section.runnable(folder, trusted=trusted))
        of_it = recipe.model_copy(update={"model": runs})
        opened = stack.enter_context(open_sweep(of_it, placement, threads=Ledger.threads(folder)))
        warn(opened.notes)
        begin()
        ledger = ledger_of(opened, folder)
        count, images = len(opened.variants), len(opened.dataset)
        say(f"{counted(count, 'cut')} on {counted(images, 'image')}: {folder}")
        with watched(opened.batches) as display:
            warn(opened.run(ledger, progress=display).notes)
        write_sweep_report(ledger, opened.dataset)
