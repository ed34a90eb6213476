"""``ablate export``: a sweep's detections for other tools."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import output_to
from ablate_kit.cli.early import check_run
from ablate_kit.cli.output import hear, say, warn
from ablate_kit.plural import counted


def export(
    run: Annotated[Path, Argument(help="Folder of a sweep.")],
    output: Annotated[Path, output_to("Folder to write.")],
    variants: Annotated[
        str, Option(help="Which variants, such as 'decoder.*'; the unmodified model is one.")
    ] = "*",
) -> None:
    """Write a sweep's annotations and detections as COCO files, one for each variant."""
    check_run(run)
    hear()
    from ablate_kit.errors import UserError, did_you_mean
    from ablate_kit.reports.coco_export import export_coco
    from ablate_kit.sweeps.finished_runs.images_of_run import images_of
    from ablate_kit.sweeps.run_folder.ledger import Ledger

    ledger = Ledger.existing(run)
    ledger.check_finished()
    found = ledger.results()
    chosen = [one for one in found if fnmatchcase(one.name, variants)]
    if not chosen:
        near = did_you_mean(variants, [one.name for one in found])
        raise UserError(f'no variant of {run} matches "{variants}"{near}')
    dataset = None
    try:
        dataset = images_of(ledger)
    except UserError as reason:
        warn([f"images without file names: {reason}"])
    paths = export_coco(ledger, chosen, output, dataset)
    files = counted(len(chosen), "file")
    say(f"written to {output}: {paths[0].name}, {files} of COCO results")
