"""``ablate queries``, ``levels``, ``points``, ``skip``: parts that only some detectors have."""

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from ablate_kit.cli.common_options import NumHeads
from ablate_kit.cli.copy_options import CopyOptions, Folder, SourceArgument
from ablate_kit.cli.number_lists import spans_of
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.ablations.kinds.kind import Kind


def queries(
    checkpoint: SourceArgument,
    output: Folder,
    pattern: Annotated[
        str | None,
        Option(help="Tables with a row per query; by default recognized by their names."),
    ] = None,
    chosen: Annotated[
        str | None, Option("--queries", help="These queries, together: 0,3-5.")
    ] = None,
    each: Annotated[bool, Option("--each", help="Every query, one by one.")] = False,
    *,
    copies: CopyOptions,
) -> None:
    """Set the embeddings of object queries to zero; a sweep can also remove a query."""
    from ablate_kit.ablations.kinds.queries import Queries

    if (chosen is not None) == each:
        raise UserError("give one of --queries and --each")
    kind = Queries(
        pattern=pattern,
        queries=spans_of(chosen, "--queries"),
        together=chosen is not None,
        how="zero",
    )
    copies.write_all_of(kind, checkpoint, output)


def levels(
    checkpoint: SourceArgument,
    base: Annotated[str, Argument(help="List of projections, such as model.input_proj.")],
    output: Folder,
    chosen: Annotated[
        str | None, Option("--levels", help="Only these levels, one by one: 0,2.")
    ] = None,
    *,
    copies: CopyOptions,
) -> None:
    """Silence levels of the feature pyramid, one by one."""
    from ablate_kit.ablations.kinds.feature_levels import Levels

    kind = Levels(base=base, levels=spans_of(chosen, "--levels"))
    copies.write_all_of(kind, checkpoint, output)


def points(
    checkpoint: SourceArgument,
    pattern: Annotated[str, Argument(help="Deformable attention modules.")],
    output: Folder,
    chosen: Annotated[
        str | None, Option("--points", help="Only these points of each head, one by one: 0,2.")
    ] = None,
    of_levels: Annotated[
        str | None, Option("--levels", help="All points on these levels, level by level.")
    ] = None,
    share: Annotated[
        Literal["renormalized", "lost"],
        Option(help="Whether the other points take over a removed one's weight, or it is lost."),
    ] = "renormalized",
    together: Annotated[
        bool, Option("--together", help="With --levels: cut a level in all modules at once.")
    ] = False,
    num_heads: NumHeads = None,
    num_levels: Annotated[
        int | None, Option(help="Number of levels, where the configuration does not tell.", min=1)
    ] = None,
    *,
    copies: CopyOptions,
) -> None:
    """Remove sampling points of deformable attention, or all points on a level."""
    from ablate_kit.ablations.kinds.sampling_points import PointLevels, Points

    if chosen is not None and of_levels is not None:
        raise UserError("give one of --points and --levels")
    if together and of_levels is None:
        raise UserError("--together goes with --levels")
    kind: Kind
    if of_levels is None:
        kind = Points(
            pattern=pattern,
            num_heads=num_heads,
            num_levels=num_levels,
            points=spans_of(chosen, "--points"),
            share=share,
        )
    else:
        kind = PointLevels(
            pattern=pattern,
            num_heads=num_heads,
            num_levels=num_levels,
            levels=spans_of(of_levels, "--levels"),
            together=together,
            share=share,
        )
    copies.write_all_of(kind, checkpoint, output)


def skip(
    checkpoint: SourceArgument,
    patterns: Annotated[list[str], Argument(help="Residual branches, one by one.")],
    output: Folder,
    *,
    copies: CopyOptions,
) -> None:
    """Let residual branches add nothing to what came in."""
    from ablate_kit.ablations.kinds.residual_branches import Skip

    copies.write_all_of(Skip(pattern=patterns), checkpoint, output)
