"""What differs between two checkpoints, as data: without torch."""

from os import PathLike
from pathlib import Path

from ablate_kit.checkpoints import compare as differences
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.compare import Diff
from ablate_kit.errors import UserError, did_you_mean


def diff(first: str | PathLike[str], second: str | PathLike[str], *, by: str = "headers") -> Diff:
    """What differs between two checkpoints.

    Args:
        by: ``headers`` (names, shapes, types), ``digests`` (bytes, too), ``values`` (how much).

    Raises:
        UserError: one of them is no checkpoint.

    Examples:
        >>> import ablate_kit as ak
        >>> from detector.zoo import SHAPES_TINY
        >>> ak.diff(SHAPES_TINY, SHAPES_TINY, by="digests").differs
        False
    """
    if by not in ("headers", "digests", "values"):
        known = ("headers", "digests", "values")
        raise UserError(f'by is "{by}"; expected {", ".join(known)}{did_you_mean(by, known)}')
    with (
        open_checkpoint(Path(first), listing=True) as a,
        open_checkpoint(Path(second), listing=True) as b,
    ):
        if by == "headers":
            return differences.by_headers(a.tensors, b.tensors)
        compare = differences.by_digests if by == "digests" else differences.by_values
        return compare(a, b, list(a.tensors), list(b.tensors))
