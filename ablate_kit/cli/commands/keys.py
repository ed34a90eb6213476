"""``ablate keys``: what is in a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import Download, Weights
from ablate_kit.cli.output import print_json, say, say_lines
from ablate_kit.errors import UserError
from ablate_kit.plural import counted

if TYPE_CHECKING:
    from ablate_kit.checkpoints import Checkpoint, TensorInfo
    from ablate_kit.checkpoints.stats import Stats


Format = Literal["table", "tree", "json"]


def keys(
    checkpoint: Annotated[Path, Argument(help="A file, or a Hugging Face folder.")],
    pattern: Annotated[
        str, Argument(help="Names to list, such as 'decoder.layers.{0-2}.*.weight'.")
    ] = "**",
    form: Annotated[Format, Option("--format", help="How to print.")] = "table",
    levels: Annotated[
        int | None, Option(help="How deep a tree goes; the whole depth.", min=1)
    ] = None,
    stats: Annotated[
        bool, Option("--stats", help="Read the data: mean, deviation, zeros, NaN.")
    ] = False,
    weights: Weights = None,
    allow_download: Download = False,
) -> None:
    """List the tensors of a checkpoint: name, shape, type, size. Nothing in it is run."""
    from ablate_kit.ablations.name_patterns import select
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.checkpoint_reports.tensor_table import tensor_json, tensor_table
    from ablate_kit.reports.checkpoint_reports.tree import dtype_mix, sizes, tied, tree

    if levels and form != "tree":
        raise UserError("--levels is for --format tree")
    with open_checkpoint(checkpoint, weights, listing=True) as opened:
        names = select(
            pattern, opened.tensors, str(opened), unsupported=opened.unsupported, listing=True
        )
        chosen = {name: opened.tensors[name] for name in names}
        numbers = _stats(opened, chosen) if stats else {}
        if form == "json":
            print_json(
                [tensor_json(name, info, numbers.get(name)) for name, info in chosen.items()]
            )
            return
        if form == "table":
            say_lines(tensor_table(chosen, numbers))
        else:
            say_lines("\n".join(tree(chosen, levels, stats=numbers)))
        say(f"{counted(len(chosen), 'tensor')}, {sizes(chosen)} in {opened}")
        types = dtype_mix(chosen)
        if len(types) > 1:
            say("types: " + ", ".join(f"{name} {share:.1%}" for name, share in types.items()))
        for names in tied(chosen):
            say(f"the same bytes: {', '.join(names)}")
        broken = [name for name, one in numbers.items() if one.nans or one.infinities]
        if broken:
            say(f"not finite: {', '.join(broken[:5])}{', ...' if len(broken) > 5 else ''}")
        packed = [name for name in opened.quantized if name in chosen]
        if packed:
            more = f", and {len(packed) - 1} more" if len(packed) > 1 else ""
            say(f"listed, and not cut: {packed[0]} ({opened.quantized[packed[0]]}){more}")
        if opened.unsupported:
            others = ", ".join(f"{name} ({why})" for name, why in opened.unsupported.items())
            say(f"more than their bytes, and not listed: {others}")
        for other in opened.alternatives:
            tensors = counted(len(other.tensors), "tensor")
            say(f'also in the file: --weights "{other.place}" ({tensors})')


def _stats(opened: "Checkpoint", chosen: "Mapping[str, TensorInfo]") -> "dict[str, Stats]":
    from ablate_kit.checkpoints.stats import stats

    return {name: stats(opened.archive, info) for name, info in chosen.items()}
