"""``ablate report``: the tables, figures and page of a sweep, anew."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import say


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a sweep.")],
) -> None:
    """Write the report of a sweep from its ledger and detections; nothing is run."""
    from ablate_kit.errors import UserError
    from ablate_kit.reports.study import write_study
    from ablate_kit.sweeps.ledger import Ledger

    ledger = Ledger.existing(run)
    if not ledger.finished:
        raise UserError(f"{run} is not finished; run ablate sweep again, and it goes on")
    say(write_study(ledger).text())
    say(f"report: {run / 'report' / 'report.html'}")
