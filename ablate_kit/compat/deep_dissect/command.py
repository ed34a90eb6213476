"""``ablate dissect``: the published tool's ablations, to reproduce numbers made with it."""

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import SEED, Repeats, Seed
from ablate_kit.cli.copy_options import CopyOptions, Folder, SourceArgument
from ablate_kit.cli.number_lists import numbers, spans_of
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.ablations.kinds.kind import Kind


Mode = Literal["units", "heads", "component", "progressive"]


def dissect(
    checkpoint: SourceArgument,
    mode: Annotated[Mode, Argument(help="Which of its ablations.")],
    tensor: Annotated[
        str, Argument(help="A tensor's name; with {layer} for heads and progressive.")
    ],
    output: Folder,
    layers: Annotated[str | None, Option(help="What {layer} stands for: 0-2.")] = None,
    percent: Annotated[str | None, Option(help="Of units and heads: 5,10.")] = None,
    repeats: Repeats = 1,
    seed: Seed = SEED,
    *,
    copies: CopyOptions,
) -> None:
    """Cut as Deep Dissect cuts, element for element: its 'heads' are not heads."""
    from ablate_kit.compat.deep_dissect import recipe_kinds as kinds

    drawn, layered = mode in ("units", "heads"), mode in ("heads", "progressive")
    if drawn != (percent is not None):
        raise UserError(f"{mode} {'needs' if drawn else 'takes no'} --percent")
    if layered != (layers is not None):
        raise UserError(f"{mode} {'needs' if layered else 'takes no'} --layers")
    if not drawn and (repeats != 1 or seed != SEED):
        option = "--seed" if repeats == 1 else "--repeats"
        raise UserError(f"{mode} draws nothing, so {option} does not go with it")
    shares = numbers(percent, "--percent") if percent else []
    spans_of(layers, "--layers")
    kind: Kind
    if mode == "component":
        kind = kinds.DissectComponent(tensor=tensor)
    elif mode == "units":
        kind = kinds.DissectUnits(tensor=tensor, percent=shares, repeats=repeats, seed=seed)
    elif mode == "progressive":
        kind = kinds.DissectProgressive(tensor=tensor, layers=layers or "")
    else:
        kind = kinds.DissectHeads(
            tensor=tensor, layers=layers or "", percent=shares, repeats=repeats, seed=seed
        )
    copies.write_all_of(kind, checkpoint, output)
