"""``ablate keys``: what is in a checkpoint."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.output import print_json, say
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.checkpoints import TensorInfo


class Format(StrEnum):
    TABLE = "table"
    TREE = "tree"
    JSON = "json"


def keys(
    checkpoint: Annotated[Path, typer.Argument(help="A file, or a Hugging Face folder.")],
    pattern: Annotated[
        str, typer.Argument(help="Names to list, such as 'decoder.layers.{0-2}.*.weight'.")
    ] = "**",
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    levels: Annotated[
        int | None, typer.Option(help="How deep a tree goes; the whole depth.", min=1)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Which weights of the file, if it holds several.")
    ] = None,
) -> None:
    """List the tensors of a checkpoint: name, shape, type, size. Nothing in it is run."""
    from ablate_kit.ablations.select import select
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.tree import sizes, tree

    if levels and form is not Format.TREE:
        raise UserError("--levels is for --format tree")
    with open_checkpoint(checkpoint, weights) as opened:
        chosen = {
            name: opened.tensors[name] for name in select(pattern, opened.tensors, str(opened))
        }
        if form is Format.JSON:
            print_json([_as_json(name, info) for name, info in chosen.items()])
            return
        say(_table(chosen) if form is Format.TABLE else "\n".join(tree(chosen, levels)))
        say(f"{len(chosen)} tensors, {sizes(chosen)} in {opened}")
        for other in opened.alternatives:
            say(f'also in the file: --weights "{other.place}" ({len(other.tensors)} tensors)')


def _as_json(name: str, info: "TensorInfo") -> dict[str, object]:
    return {
        "name": name,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "elements": info.numel,
        "bytes": info.nbytes,
    }


def _table(tensors: "Mapping[str, TensorInfo]") -> str:
    from ablate_kit.reports.table import Table

    rows = tuple(
        (name, "x".join(map(str, info.shape)) or "scalar", info.dtype, f"{info.numel:,}")
        for name, info in tensors.items()
    )
    return Table("", ("tensor", "shape", "dtype", "elements"), rows, ("tensor", "dtype")).text()
