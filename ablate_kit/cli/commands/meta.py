"""``ablate meta``: what a checkpoint holds beside its tensors."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit import text as safe
from ablate_kit.cli.common_options import Download
from ablate_kit.cli.output import print_json, say, say_lines
from ablate_kit.errors import UserError
from ablate_kit.plural import counted

LEVELS = 3


def meta(
    checkpoint: Annotated[Path, Argument(help="A file, or a Hugging Face folder.")],
    levels: Annotated[int, Option(help="How deep containers are opened.", min=1)] = LEVELS,
    as_json: Annotated[bool, Option("--json", help="Print it as JSON.")] = False,
    receipt: Annotated[
        bool, Option("--receipt", help="Print only the receipt, for ablate apply.")
    ] = False,
    allow_download: Download = False,
) -> None:
    """Show format, weight sets and everything else in the file. Nothing in it is run."""
    from ablate_kit.checkpoints import open_archive, weight_sets
    from ablate_kit.reports.checkpoint_reports.metadata_outline import of_folder, outline
    from ablate_kit.reports.checkpoint_reports.tree import sizes

    if receipt:
        if as_json or levels != LEVELS:
            option = "--json" if as_json else "--levels"
            raise UserError(f"{option} has no effect on --receipt, which prints it as it is")
        say_lines(_receipt(checkpoint))
        return
    with open_archive(checkpoint) as archive:
        sets = weight_sets(archive)
        rows = list(outline(archive.metadata, levels))
        if checkpoint.is_dir():
            rows += outline(of_folder(checkpoint), levels)
        if as_json:
            print_json(
                {
                    "format": archive.format,
                    "files": {str(path): path.stat().st_size for path in archive.files},
                    "weights": {one.place: len(one.tensors) for one in sets},
                    "metadata": [{"path": list(path), "value": text} for path, text in rows],
                }
            )
            return
        say(f"{archive.path}: {archive.format}, {counted(len(archive.tensors), 'tensor')}")
        for path in archive.files[1:]:
            say(f"  {path.name}  {path.stat().st_size / 1e6:,.2f} MB")
        for number, one in enumerate(sets):
            choice = f'--weights "{one.place}"' if one.place else "the top level"
            usual = ", taken unless told otherwise" if not number and len(sets) > 1 else ""
            tensors = counted(len(one.tensors), "tensor")
            say(f"weights: {choice}  {tensors}, {sizes(one.tensors)}{usual}")
        for keys, text in rows:
            name = "  " * (len(keys) - 1) + (keys[-1] or "the whole file")
            say(f"{name}: {text}" if text else f"{name}:")


def _receipt(path: Path) -> str:
    from ablate_kit.ablations.receipt import receipt_text
    from ablate_kit.checkpoints import open_checkpoint

    with open_checkpoint(path) as opened:
        found = receipt_text(opened)
    if found is None:
        raise UserError(f"{path} has no receipt, inside or beside it")
    return safe.json_safe(found[0].rstrip("\n"))
