"""``ablate report``: the tables, figures and page of a sweep, anew."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.cli.early import check_run
from ablate_kit.cli.output import hear, reporting, say, say_lines, say_where, warn
from ablate_kit.cli.statistics_options import Adjusted, Margin, Top, statistics


def report(
    run: Annotated[Path, Argument(help="Folder of a sweep.")],
    examples: Annotated[int, Option(help="Photographs to show; 0 for none.", min=0, max=6)] = 6,
    margin: Margin = None,
    adjust: Adjusted = None,
    top: Top = None,
) -> None:
    """Write the report of a sweep from its ledger and detections; nothing is run."""
    check_run(run)
    hear()
    from ablate_kit.errors import UserError
    from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
    from ablate_kit.sweeps.finished_runs.images_of_run import images_of
    from ablate_kit.sweeps.run_folder.ledger import Ledger

    ledger = Ledger.existing(run)
    ledger.check_finished()
    manifest = ledger.manifest()
    own = manifest.statistics
    asked = statistics(margin, adjust, own)
    if manifest.race and asked.adjust != own.adjust:
        raise UserError(f"{run} is a race, whose verdicts are adjusted for its looks: no --adjust")
    dataset = None
    if examples:
        try:
            dataset = images_of(ledger)
        except UserError as reason:
            warn([f"no photographs in the report: {reason}"])
    with Ledger.locked(run), reporting():
        table = write_sweep_report(ledger, dataset, examples, asked, top).table
    say_lines(table.text())
    for name in ("margin", "adjust"):
        if (given := getattr(asked, name)) != (kept := getattr(own, name)):
            say(f"{name} {given} in this report alone; the run's is {kept}, which the next has")
    say_where(run)
