"""``ablate graft``: pretrained parts put into a checkpoint of the hybrid detector."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ablate_kit import text as safe
from ablate_kit.cli.common_options import Download, DryRun, output_to
from ablate_kit.cli.early import check_there
from ablate_kit.cli.output import check_new_file, print_json, say, say_lines

if TYPE_CHECKING:
    from ablate_kit.ablations.pretrained_parts import Graft

LISTED = 20  # names of a kind that the report spells out


def graft(
    checkpoint: Annotated[Path, Argument(help="Of the hybrid detector.")],
    source: Annotated[Path, Option("--from", help="A file with the pretrained parts.")],
    output: Annotated[Path, output_to("File to write (safetensors).")],
    parts: Annotated[str, Option(help="Modules of the detector.")] = "backbone,neck",
    rules: Annotated[
        list[str] | None, Option("--map", help="Rename the source's tensors: old.*=new.*")
    ] = None,
    skip_mismatched: Annotated[
        bool, Option("--skip-mismatched", help="Leave out tensors of another shape.")
    ] = False,
    weights: Annotated[
        str | None, Option(help="Which weights of the source, if it holds several.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the report as JSON.")] = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Load pretrained backbone and neck (or other parts), with a report of every tensor."""
    check_there(checkpoint, source)
    check_new_file(output, ".safetensors")
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.rewriting.grafted import grafted, source_of
    from ablate_kit.models.rewriting.new_file_content import note_for, write_noted

    with open_checkpoint(checkpoint) as opened, open_checkpoint(source, weights) as given:
        done, content = grafted(
            opened, given, parts.split(","), rules or [], skip_mismatched=skip_mismatched
        )
        if not dry_run:
            settings = {
                "from": source_of(given),
                "parts": parts,
                "map": rules or [],
                "skip_mismatched": skip_mismatched,
                "tensors": len(done.loaded),
            }
            write_noted(content, output, note_for(opened, "graft", settings))
    if as_json:
        print_json(
            {
                "path": str(output),
                "loaded": done.loaded,
                "cast": done.cast,
                "mismatched": done.mismatched,
                "missing": done.missing,
                "unused": done.unused,
            }
        )
        return
    say_lines(_report(done, parts.split(",")))
    say("dry run: nothing written" if dry_run else f"written to {output}")


def _report(done: "Graft", parts: list[str]) -> str:
    lines = []
    for part in parts:
        inside = f"{part}."
        loaded = sum(name.startswith(inside) for name in done.loaded)
        others = (*done.missing, *done.mismatched)
        total = loaded + sum(name.startswith(inside) for name in others)
        lines.append(f"{part}: {loaded} of {total} tensors loaded")
    if done.cast:
        lines.append(f"of another dtype and converted: {len(done.cast)}")
    shapes = [
        f"{name}: {there} there, {here} here" for name, (here, there) in done.mismatched.items()
    ]
    for title, names in (
        ("left out, of another shape", shapes),
        ("left as they were, not in the source", done.missing),
        ("not used of the source", done.unused),
    ):
        if names:
            lines.append(f"{title}: {len(names)}")
            lines += [f"  {name}" for name in names[:LISTED]]
            if len(names) > LISTED:
                lines.append(f"  ... and {len(names) - LISTED} more (--json lists all)")
    return "\n".join(map(safe.line, lines))
