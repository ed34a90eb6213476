"""What differs between two checkpoints, as data: without torch."""

from os import PathLike
from pathlib import Path

from ablate_kit.api.keywords import by_keyword
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.compare import BY, Diff
from ablate_kit.checkpoints.hub import downloads
from ablate_kit.errors import UserError, did_you_mean


@by_keyword()
def diff(
    first: str | PathLike[str],
    second: str | PathLike[str],
    *,
    by: str = "headers",
    allow_download: bool = False,
) -> Diff:
    """What differs between two checkpoints.

    Args:
        by: ``headers`` (names, shapes, types), ``digests`` (bytes, too), ``values`` (how much).
        allow_download: may what is not in the hub's cache be downloaded?

    Raises:
        UserError: one of them is no checkpoint.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> ak.diff(SHAPES_TINY, SHAPES_TINY, by="digests").differs
        False
    """
    if by not in BY:
        raise UserError(f'by is "{by}"; expected {", ".join(BY)}{did_you_mean(by, BY)}')
    with (
        downloads(allowed=allow_download),
        open_checkpoint(Path(first), listing=True) as a,
        open_checkpoint(Path(second), listing=True) as b,
    ):
        return BY[by](a, b, list(a.tensors), list(b.tensors))
