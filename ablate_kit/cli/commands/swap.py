"""``ablate swap``: a checkpoint of the hybrid detector with modules switched on or off."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import Download, DryRun, Weights, output_to
from ablate_kit.cli.early import check_there
from ablate_kit.cli.output import check_new_file, print_json, say, say_lines

if TYPE_CHECKING:
    from ablate_kit.ablations.module_switches import Swap


def swap(
    checkpoint: Annotated[Path, Argument(help="Of the hybrid detector.")],
    switches: Annotated[
        list[str],
        Argument(help="gate_fuse=on csi=off pgi=[1,3]; any setting of detector/settings.py."),
    ],
    output: Annotated[Path, output_to("File to write (safetensors).")],
    init: Annotated[
        Literal["identity", "fresh"],
        Option(help="New modules change nothing where they can, or are as drawn."),
    ] = "identity",
    seed: Annotated[int, Option(help="Of what is drawn.", min=0)] = 0,
    weights: Weights = None,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Switch modules of the hybrid detector; what both networks have is kept bit for bit."""
    check_there(checkpoint)
    check_new_file(output, ".safetensors")
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.rewriting.new_file_content import note_for, write_noted
    from ablate_kit.models.rewriting.swapped import swapped

    with open_checkpoint(checkpoint, weights) as opened:
        result, content = swapped(opened, switches, init, seed)
        if not dry_run:
            settings = {"switches": switches, "init": init, "seed": seed}
            write_noted(content, output, note_for(opened, "swap", settings))
    parts = {"kept": result.kept, "new": result.new, "dropped": result.dropped}
    if as_json:
        difference = result.change if result.change != float("inf") else None
        print_json({"path": str(output), "output_difference": difference} | parts)
        return
    say_lines(_report(result, parts))
    say("dry run: nothing written" if dry_run else f"written to {output}")


def _report(result: "Swap", parts: dict[str, dict[str, int]]) -> str:
    from ablate_kit.ablations.module_switches import grouped
    from ablate_kit.reports.table import Table

    rows = []
    for word, names in parts.items():
        rows.append((word, "in all", f"{len(names)}", f"{sum(names.values()):,}"))
        if word != "kept":
            rows += [
                ("", module, f"{tensors}", f"{elements:,}")
                for module, (tensors, elements) in grouped(names, result.kept).items()
            ]
    table = Table("", ("", "module", "tensors", "elements"), tuple(rows), ("", "module")).text()
    if result.change == 0.0:
        return f"{table}\nthe output is unchanged"
    if result.change == float("inf"):
        return f"{table}\nthe output has another shape"
    by = f"scores and boxes by up to {result.change:.3g} on a random image"
    return f"{table}\nthe output changes: {by}"
