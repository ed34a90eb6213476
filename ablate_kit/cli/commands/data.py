"""``ablate data``: getting a data set, and looking at what is in it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from ablate_kit.cli.commands import data_check, data_convert, data_huggingface
from ablate_kit.cli.option_groups import with_groups
from ablate_kit.cli.output import print_json, say, say_lines
from ablate_kit.progress_bars import progress

if TYPE_CHECKING:
    from detector.data.formats.voc_archives import Presence

app = typer.Typer(help="Get a data set, check one, convert one.", no_args_is_help=True)
app.command("check")(with_groups(data_check.check))
app.command("convert")(with_groups(data_convert.convert))
app.command("huggingface")(data_huggingface.huggingface)


@app.command("voc")
def voc(
    root: Annotated[Path, Option(help="VOCdevkit folder, or the one that holds it.")],
    download: Annotated[
        bool, Option("--download", help="Fetch and unpack what is missing.")
    ] = False,
    site: Annotated[
        str | None, Option(help="A mirror of the archives, in voc2007/ and voc2012/.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Tell what is there of PASCAL VOC 2007 and 2012, and get the rest; exit code 1 if not all."""
    from ablate_kit.errors import UserError
    from detector.data.formats import voc_archives

    if site and not download:
        raise UserError("--site is for --download")
    fetched: list[Path] = []
    if download:
        with progress(of_bytes=True) as bars:

            def watch(name: str) -> Callable[[int, int | None], None]:
                bar = bars.add_task(name, total=None)
                return lambda done, total: bars.update(bar, completed=done, total=total)

            fetched = voc_archives.complete(root, watch, site or voc_archives.SITE)
    elif not root.is_dir():
        raise UserError(f"{root}: no such folder; --download makes it and fetches the data")
    parts = voc_archives.presence(root)
    whole = all(part.complete for part in parts)
    if as_json:
        print_json(
            {
                "complete": whole,
                "splits": [asdict(part) | {"complete": part.complete} for part in parts],
            }
        )
    else:
        say_lines(_presence_table(parts))
        if fetched:
            say(f"fetched, and no longer needed: {', '.join(map(str, fetched))}")
        say(
            "complete"
            if whole
            else f"not complete{'' if download else '; --download fetches the rest'}"
        )
    if not whole:
        raise typer.Exit(1)


def _presence_table(parts: "list[Presence]") -> str:
    from ablate_kit.reports.table import Table

    rows = tuple(
        (
            f"{part.year}:{part.split}",
            *(f"{n:,}" for n in (part.expected, part.listed, part.annotations, part.images)),
            "complete" if part.complete else "partial" if part.listed else "missing",
        )
        for part in parts
    )
    header = ("split", "official", "listed", "annotations", "images", "")
    return Table("", header, rows, ("split", "")).text()
