"""``ablate units``, ``heads``, ``component``, ``layers``: changed copies of a checkpoint."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import SEED, NumHeads, Repeats, Seed, output_to
from ablate_kit.cli.copy_options import CopyOptions, Folder, SourceArgument
from ablate_kit.cli.number_lists import numbers
from ablate_kit.cli.output import say
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.checkpoints import Checkpoint

Pattern = Annotated[
    str, Argument(help="What to cut: names with *, **, {0-5}, {layer}. See 'ablate keys'.")
]


def units(
    checkpoint: SourceArgument,
    pattern: Pattern,
    percent: Annotated[str, Option(help="Share of each tensor's elements: 5,10.")],
    output: Folder,
    repeats: Repeats = 1,
    seed: Seed = SEED,
    *,
    copies: CopyOptions,
) -> None:
    """Set a random share of a tensor's elements to zero."""
    from ablate_kit.ablations.kinds.kind import KindContext, floating_names
    from ablate_kit.ablations.kinds.units import Units

    with copies.open(checkpoint) as opened:
        _once(floating_names(opened, pattern), opened, copies.as_json)
        shares = numbers(percent, "--percent")
        kind = Units(pattern=pattern, percent=shares, repeats=repeats, seed=seed)
        copies.write(opened, kind.make(KindContext(opened)), output)


def heads(
    checkpoint: SourceArgument,
    pattern: Annotated[str, Argument(help="Attention modules: names with *, **, {0-5}, {layer}.")],
    output: Folder,
    chosen: Annotated[
        str | None, Option("--heads", help="These heads of every module, together: 0,3.")
    ] = None,
    percent: Annotated[
        str | None, Option(help="A random share of every module's heads: 25,50.")
    ] = None,
    each: Annotated[bool, Option("--each", help="Every head, one by one.")] = False,
    layers: Annotated[str | None, Option(help="Only these layers, for {layer}: 0-2.")] = None,
    num_heads: NumHeads = None,
    repeats: Repeats = 1,
    seed: Seed = SEED,
    *,
    copies: CopyOptions,
) -> None:
    """Remove attention heads: exactly these, and nothing else of the module."""
    from ablate_kit.ablations.kinds.heads import RandomHeads, heads_chosen, heads_each
    from ablate_kit.ablations.kinds.kind import KindContext
    from ablate_kit.ablations.name_patterns import file_name, parse_spans
    from ablate_kit.models.opening.framework_registry import anatomy_of

    if sum((chosen is not None, percent is not None, each)) != 1:
        raise UserError("give one of --heads, --percent and --each")
    if percent is None and (repeats != 1 or seed != SEED):
        option = "--seed" if repeats == 1 else "--repeats"
        raise UserError(f"{option} goes with --percent; other choices of heads draw nothing")
    with copies.open(checkpoint) as opened:
        source = KindContext(opened, anatomy=anatomy_of(opened))
        wanted = parse_spans(layers, "--layers") if layers else None
        modules = source.attentions(pattern, num_heads, wanted)
        label = file_name(pattern, layers)
        if chosen is not None:
            ablations = [heads_chosen(modules, parse_spans(chosen, "--heads"), label)]
        elif percent is not None:
            shares = numbers(percent, "--percent")
            kind = RandomHeads(pattern=pattern, percent=shares, repeats=repeats, seed=seed)
            ablations = kind.of(modules, label)
        else:
            ablations = heads_each(modules)
        copies.write(opened, ablations, output)


def component(
    checkpoint: SourceArgument,
    patterns: Annotated[list[str], Argument(help="Tensors or modules to set to zero.")],
    output: Annotated[Path, output_to("File (or folder) to write.")],
    *,
    copies: CopyOptions,
) -> None:
    """Set whole tensors to zero, all in one variant."""
    from ablate_kit.ablations.kinds.kind import floating_names
    from ablate_kit.ablations.kinds.zeros import component as component_rule

    with copies.open(checkpoint) as opened:
        names = dict.fromkeys(n for pattern in patterns for n in floating_names(opened, pattern))
        once = _once(names, opened, copies.as_json)
        copies.write_to(opened, {output: component_rule(once, output.stem, shapes=opened.shapes)})


def layers(
    checkpoint: SourceArgument,
    base: Annotated[str, Option(help="The list of layers, such as decoder.layers.")],
    part: Annotated[str, Option(help="The part of each layer to remove, such as cross_attn.")],
    output: Folder,
    mode: Annotated[
        Literal["progressive", "each", "backward"],
        Option(help="Layers 0, 0-1, 0-2 ...; each alone; or from the last one on."),
    ] = "progressive",
    *,
    copies: CopyOptions,
) -> None:
    """Remove the same part of more and more layers."""
    from ablate_kit.ablations.kinds.layers import Layers

    copies.write_all_of(Layers(base=base, part=part, mode=mode), checkpoint, output)


def _once(names: Iterable[str], checkpoint: "Checkpoint", quiet: bool) -> list[str]:
    """``names`` without those that are the same bytes as an earlier one."""
    found = checkpoint.distinct(names)
    for first, others in found.items():
        for name in others if not quiet else ():
            say(f"{name} is the same tensor as {first}: edited once")
    return list(found)
