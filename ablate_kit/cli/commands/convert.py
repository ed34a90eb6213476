"""``ablate convert``: checkpoints under the names of another framework."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import Download, DryRun, Weights, output_to
from ablate_kit.cli.early import check_files, check_there
from ablate_kit.cli.output import check_new_file, say
from ablate_kit.errors import UserError
from detector.errors import check_can_write


def convert(
    checkpoint: Annotated[
        Path,
        Argument(
            help="Of the hybrid detector, the notebooks, MMDetection, or an official repository."
        ),
    ],
    output: Annotated[Path, output_to("A .safetensors or .pth file to write; a folder with --to.")],
    to: Annotated[
        Literal["transformers"] | None,
        Option(
            help="A file of MMDetection or of an official repository (such as RT-DETR's) "
            "as a Hugging Face folder."
        ),
    ] = None,
    num_heads: Annotated[
        int | None,
        Option(min=1, help="Heads of each attention, with --to, where the file tells none."),
    ] = None,
    class_names: Annotated[
        Path | None,
        Option(help="With --to: COCO annotations, or a name per line for outputs from 0 on."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="With --to: an argument of the training that the file does not tell, "
            "cross_attn_method=discrete (RT-DETRv2, D-FINE).",
        ),
    ] = None,
    to_legacy: Annotated[
        bool, Option("--to-legacy", help="Write the notebooks' names (a .pth file).")
    ] = False,
    weights: Weights = None,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Rewrite a checkpoint under our names, the thesis notebooks', or Hugging Face's."""
    if to and to_legacy:
        raise UserError("--to and --to-legacy are two forms; give one")
    if not to and (num_heads or class_names or settings):
        raise UserError("--num-heads, --class-names and --set go with --to transformers")
    arguments = dict(_pair(one) for one in settings or ())
    check_there(checkpoint)
    check_files(class_names)
    if to:
        _to_transformers(checkpoint, output, weights, num_heads, class_names, arguments, dry_run)
    else:
        _to_hybrid(checkpoint, output, weights, dry_run, to_legacy)
    if dry_run:
        say("dry run: nothing written")


def _to_hybrid(
    checkpoint: Path, output: Path, weights: str | None, dry_run: bool, to_legacy: bool
) -> None:
    check_new_file(output, *((".pth",) if to_legacy else (".safetensors", ".pth")))
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.rewriting.conversions import convert as write_converted
    from ablate_kit.models.rewriting.notebook_conversion import converted

    with open_checkpoint(checkpoint, weights) as opened:
        if dry_run:
            only = output.suffix != ".pth"
            done = converted(opened, to_legacy=to_legacy, tensors_only=only)
        else:
            done = write_converted(opened, output, to_legacy=to_legacy)
    say(f"{output}  {done.renamed} of {done.tensors} tensors renamed")
    if done.kept:
        say(f"kept: {', '.join(done.kept)}")
    if done.dropped:
        say(f"dropped: {', '.join(done.dropped)}")


def _to_transformers(
    checkpoint: Path,
    output: Path,
    weights: str | None,
    heads: int | None,
    class_names: Path | None,
    arguments: dict[str, str],
    dry_run: bool,
) -> None:
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.bridge.to_transformers import to_transformers
    from ablate_kit.models.labels.classes import read_class_names
    from ablate_kit.models.rewriting.conversions import write_bridge

    check_can_write(output)
    classes = read_class_names(class_names) if class_names else None
    with open_checkpoint(checkpoint, weights) as opened:
        conversion = to_transformers(opened, heads=heads, classes=classes, arguments=arguments)
        if not dry_run:
            write_bridge(conversion, output)
    model = conversion.model
    say(f"{output}  {len(conversion.placed)} tensors, {model.config['architectures'][0]}")
    if model.assumed:
        say(f"assumed, as the file does not tell: {'; '.join(model.assumed)}")
    if model.biases:
        say(f"added: {len(model.biases)} biases of zeros, which MMDetection leaves out")
    if conversion.dropped:
        say(f"dropped, as they compute nothing: {_listed(conversion.dropped)}")
    if conversion.tied:
        say(f"the same under several names, taken once; not: {_listed(conversion.tied)}")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise UserError(f"--set {text}: expected NAME=VALUE")
    return name, value


def _listed(names: tuple[str, ...]) -> str:
    more = f", ... {len(names)} in all" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
