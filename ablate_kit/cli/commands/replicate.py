"""``ablate replicate``: the cuts of a run in other checkpoints, and what holds in all of them."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument

from ablate_kit.cli.common_options import Device, output_to
from ablate_kit.cli.early import check_run, check_there
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import reporting, resumable, say, say_lines, this_command, warn
from ablate_kit.cli.statistics_options import Adjusted, Margin, Top, statistics
from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.sweeps.shown_progress import watched

if TYPE_CHECKING:
    from ablate_kit.sweeps.recipes.model_section import ModelSection
    from ablate_kit.sweeps.replications.replicas import Replicas


def replicate(
    run: Annotated[Path, Argument(help="Folder of a sweep or study that has ended.")],
    others: Annotated[
        list[Path],
        Argument(
            help="Checkpoints, such as other seeds of the training; or folders of sweeps of the "
            "same cuts.",
            metavar="CHECKPOINT|RUN...",
        ),
    ],
    *,
    model: ModelOptions,
    device: Device = "cpu",
    margin: Margin = None,
    adjust: Adjusted = None,
    top: Top = None,
    output: Annotated[
        Path | None, output_to("Folder of the other runs and of the report; RUN-replicated.")
    ] = None,
) -> None:
    """Make the cuts of a run in other checkpoints, too: which conclusions hold in all of them?"""
    check_run(run)
    runs = [(one / "inputs.json").is_file() for one in others]
    check_there(*(one for one, is_run in zip(others, runs, strict=True) if not is_run))
    from ablate_kit.reports.replication_reports.replication_folder import write_replication
    from ablate_kit.reports.replication_reports.replication_table import replication_table
    from ablate_kit.reports.replication_reports.replication_words import replication_sentences
    from ablate_kit.reports.study_reports.titles import titles_in
    from ablate_kit.sweeps.replications.replicas import Replicas, told
    from ablate_kit.sweeps.run_folder.ledger import Ledger

    if all(runs) and (model.any() or device != "cpu"):
        raise UserError(
            "options of the model and --device have no effect on runs, which have ended; they go "
            "with checkpoints"
        )
    replicas = Replicas.of(run, others, runs, output)
    asked = statistics(margin, adjust, Ledger.existing(run).manifest().statistics)
    sections = {
        number: replicas.section(
            number, framework=model.model, weights=model.weights, class_names=model.class_names
        )
        for number in replicas.swept
    }
    found = replicas.compared(
        sections,
        lambda number, folder: _sweep(replicas, number, folder, sections[number], model, device),
        asked,
    )
    found = replace(found, called=titles_in(run))
    notes = told(found)
    replicas.claim()
    report = replicas.folder / "report"
    write_replication(report, found, this_command(), notes)
    warn(notes)
    say_lines(replication_table(found, top).text())
    say_lines("\n" + "".join(f"* {one}\n" for one in replication_sentences(found)))
    say(f"report: {report / 'report.html'}")


def _sweep(
    replicas: "Replicas",
    number: int,
    folder: Path,
    section: "ModelSection",
    model: ModelOptions,
    device: str,
) -> None:
    """The sweep of another checkpoint; what is there already is kept."""
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.sweeps.backends.placement import Placement
    from ablate_kit.sweeps.estimates.sweep_size import size_of
    from ablate_kit.sweeps.run_sweep import run_sweep

    trusted = model.trust_remote_code
    placement = Placement((device,), trust_remote_code=trusted)
    with ExitStack() as stack:
        stack.enter_context(resumable(folder))
        runs = stack.enter_context(section.runnable(folder, trusted=trusted))
        opened = stack.enter_context(replicas.opened(number, runs, placement))
        warn(opened.notes)
        ledger = replicas.begin(number, opened, this_command())
        say(f"{size_of(opened).told('cut')} on {counted(len(opened.dataset), 'image')}: {folder}")
        with watched(opened.batches) as display:
            warn(run_sweep(opened, ledger, progress=display).notes)
        with reporting():
            write_sweep_report(ledger, opened.dataset)
