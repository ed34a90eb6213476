"""``ablate units``, ``heads``, ``component``, ``layers``: changed copies of a checkpoint."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate_kit.cli.download_option import Download
from ablate_kit.cli.output import DryRun, numbers, print_json, say, say_lines, warn
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.ablations.ablation import Ablation
    from ablate_kit.checkpoints import Checkpoint

SourceArgument = Annotated[Path, typer.Argument(help="A file, or a Hugging Face folder.")]
Pattern = Annotated[
    str, typer.Argument(help="What to cut: names with *, **, {0-5}, {layer}. See 'ablate keys'.")
]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the variants.")]
Weights = Annotated[
    str | None, typer.Option(help="Which weights of the file, if it holds several.")
]
Repeats = Annotated[int, typer.Option(help="Independent random draws per percentage.")]
Seed = Annotated[int, typer.Option(help="Of the random draws.")]
Json = Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")]


_TWINS = 5  # tensors of which the copies are named


class LayerMode(StrEnum):
    PROGRESSIVE = "progressive"
    EACH = "each"
    BACKWARD = "backward"


def units(
    checkpoint: SourceArgument,
    pattern: Pattern,
    percent: Annotated[str, typer.Option(help="Share of each tensor's elements: 5,10.")],
    output: Folder,
    repeats: Repeats = 1,
    seed: Seed = 42,
    weights: Weights = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Set a random share of a tensor's elements to zero."""
    from ablate_kit.ablations.kinds import units as units_rule
    from ablate_kit.ablations.name_patterns import file_name, select
    from ablate_kit.checkpoints import open_checkpoint

    with open_checkpoint(checkpoint, weights) as opened:
        names = _once(
            select(pattern, opened.tensors, str(opened), unsupported=opened.unsupported),
            opened,
            as_json,
        )
        shapes = {name: opened.tensors[name].shape for name in names}
        shares = numbers(percent, "--percent")
        ablations = units_rule.units(
            shapes, shares, repeats=repeats, seed=seed, label=file_name(pattern)
        )
        write_all(opened, ablations, output, as_json, dry_run)


def heads(
    checkpoint: SourceArgument,
    pattern: Annotated[
        str, typer.Argument(help="Attention modules: names with *, **, {0-5}, {layer}.")
    ],
    output: Folder,
    chosen: Annotated[
        str | None, typer.Option("--heads", help="These heads of every module, together: 0,3.")
    ] = None,
    percent: Annotated[
        str | None, typer.Option(help="A random share of every module's heads: 25,50.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Every head, one by one.")] = False,
    layers: Annotated[str | None, typer.Option(help="Of {layer}, only these: 0-2.")] = None,
    num_heads: Annotated[
        int | None, typer.Option(help="Heads of a module, if its config does not tell.", min=1)
    ] = None,
    repeats: Repeats = 1,
    seed: Seed = 42,
    weights: Weights = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Remove attention heads: exactly these, and nothing else of the module."""
    from ablate_kit.ablations.attention import select_attentions
    from ablate_kit.ablations.kinds import heads as heads_rule
    from ablate_kit.ablations.name_patterns import file_name, parse_spans
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.framework_registry import anatomy_of

    if sum((chosen is not None, percent is not None, each)) != 1:
        raise UserError("give one of --heads, --percent and --each")
    if percent is None and repeats != 1:
        raise UserError("--repeats goes with --percent; other choices of heads draw nothing")
    with open_checkpoint(checkpoint, weights) as opened:
        modules = select_attentions(
            pattern,
            opened.tensors,
            str(opened),
            config=opened.settings,
            heads=num_heads,
            layers=parse_spans(layers, "--layers") if layers else None,
            modules=opened.modules_above,
            anatomy=anatomy_of(opened),
            unsupported=opened.unsupported,
            quantized=opened.quantized,
        )
        label = file_name(pattern, layers)
        if chosen is not None:
            wanted = parse_spans(chosen, "--heads")
            ablations = [heads_rule.heads_chosen(modules, wanted, label)]
        elif percent is not None:
            shares = numbers(percent, "--percent")
            ablations = heads_rule.random_heads(modules, shares, label, repeats=repeats, seed=seed)
        else:
            ablations = heads_rule.heads_each(modules)
        write_all(opened, ablations, output, as_json, dry_run)


def component(
    checkpoint: SourceArgument,
    patterns: Annotated[list[str], typer.Argument(help="Tensors or modules to set to zero.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File (or folder) to write.")],
    weights: Weights = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Set whole tensors to zero, all in one variant."""
    from ablate_kit.ablations.kinds.zeros import component as component_rule
    from ablate_kit.ablations.name_patterns import select
    from ablate_kit.checkpoints import open_checkpoint

    with open_checkpoint(checkpoint, weights) as opened:
        names = dict.fromkeys(
            name
            for pattern in patterns
            for name in select(pattern, opened.tensors, str(opened), unsupported=opened.unsupported)
            # A quantized weight is refused, not left as it is.
            if opened.tensors[name].is_floating or name in opened.quantized
        )
        _write(
            opened,
            {output: component_rule(_once(names, opened, as_json), output.stem)},
            as_json,
            dry_run,
        )


def layers(
    checkpoint: SourceArgument,
    base: Annotated[str, typer.Option(help="The list of layers, such as decoder.layers.")],
    part: Annotated[str, typer.Option(help="What of each layer, such as cross_attn.")],
    output: Folder,
    mode: Annotated[
        LayerMode,
        typer.Option(help="0, 0-1, 0-2 ...; one at a time; or from the last layer on."),
    ] = LayerMode.PROGRESSIVE,
    weights: Weights = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Remove the same part of more and more layers."""
    from ablate_kit.ablations.kinds import layers as layers_rule
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.framework_registry import anatomy_of

    with open_checkpoint(checkpoint, weights) as opened:
        ablations = layers_rule.layers(
            opened.tensors, base, part, mode.value, str(opened), anatomy_of(opened)
        )
        write_all(opened, ablations, output, as_json, dry_run)


def write_all(
    checkpoint: "Checkpoint",
    ablations: "list[Ablation]",
    output: Path,
    as_json: bool,
    dry_run: bool,
) -> None:
    from ablate_kit.ablations.variant_files import variant_paths

    _write(checkpoint, variant_paths(checkpoint, ablations, output), as_json, dry_run)


def _write(
    checkpoint: "Checkpoint", targets: "dict[Path, Ablation]", as_json: bool, dry_run: bool
) -> None:
    from ablate_kit.ablations.apply_edits import elements_changed
    from ablate_kit.ablations.variant_files import check_free, write_variants

    if dry_run and not as_json:
        from ablate_kit.reports.dry_run import plan

        check_free(checkpoint, targets)
        say_lines(plan(checkpoint, targets))
        _say_shared(checkpoint, targets)
        _warn_of_twins(checkpoint, targets)
        return
    if dry_run:
        check_free(checkpoint, targets)
    else:
        write_variants(checkpoint, targets)
    _warn_of_twins(checkpoint, targets)
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    if as_json:
        print_json(
            [
                {
                    "path": str(path),
                    "elements": elements_changed(one, shapes),
                    "ablation": one.to_dict(),
                }
                for path, one in targets.items()
            ]
        )
        return
    for path, one in targets.items():
        tensors = len({edit.tensor for edit in one.edits})
        count = elements_changed(one, shapes)
        say(f"{path}  {count:,} elements of {tensors} tensor{'s' if tensors != 1 else ''} set")
    _say_shared(checkpoint, targets)


def _say_shared(checkpoint: "Checkpoint", targets: "dict[Path, Ablation]") -> None:
    """Names the tensors that change too, because they are the same bytes."""
    noted = set()
    for one in targets.values():
        edited = dict.fromkeys(edit.tensor for edit in one.edits)
        for name in edited:
            others = [other for other in checkpoint.sharing(name) if other not in edited]
            if others and name not in noted:
                noted.add(name)
                say(f"{name} shares its bytes with {', '.join(others)}: changed together")


def _warn_of_twins(checkpoint: "Checkpoint", targets: "dict[Path, Ablation]") -> None:
    """Names the equal copies of what is cut that stay as they are."""
    from ablate_kit.checkpoints.tied_copies import tied_copies

    tensors = checkpoint.tensors
    known = tied_copies(checkpoint, {edit.tensor for one in targets.values() for edit in one.edits})
    left: dict[str, list[str]] = {}
    for one in targets.values():
        names = dict.fromkeys(edit.tensor for edit in one.edits if edit.tensor in known)
        changed = {tensors[edit.tensor].storage for edit in one.edits}
        spared: dict[int, list[str]] = {}  # by the list of equal ones
        for name in names:
            equal = known[name]
            if id(equal) not in spared:
                spared[id(equal)] = [key for key in equal if tensors[key].storage not in changed]
            if spared[id(equal)]:
                left.setdefault(name, spared[id(equal)])
    notes = [
        f"{name} has equal copies that are not cut with it: {', '.join(others[:3])}"
        + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        for name, others in left.items()
    ]
    warn(notes[:_TWINS])
    if len(notes) > _TWINS:
        warn([f"{len(notes) - _TWINS} more tensors have equal copies that are not cut with them"])


def _once(names: Iterable[str], checkpoint: "Checkpoint", quiet: bool) -> list[str]:
    """``names`` without those that are the same bytes as an earlier one."""
    found = checkpoint.distinct(names)
    for first, others in found.items():
        for name in others if not quiet else ():
            say(f"{name} is the same tensor as {first}: edited once")
    return list(found)
