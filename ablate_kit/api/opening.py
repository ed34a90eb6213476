"""Checkpoints as data, from Python: without torch."""

from os import PathLike, fspath
from pathlib import Path

from ablate_kit import checkpoints
from ablate_kit.api.keywords import by_keyword
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.compare import BY, Diff
from ablate_kit.checkpoints.hub import downloads
from ablate_kit.errors import UserError, did_you_mean


@by_keyword()
def open_checkpoint(
    path: str | PathLike[str],
    weights: str | None = None,
    *,
    listing: bool = False,
    allow_download: bool = False,
) -> Checkpoint:
    """A checkpoint as data: names, shapes and bytes of its tensors; no model is built.

    Args:
        path: a file, a folder, ``builtin:shapes_tiny`` or ``hf:OWNER/NAME`` of the hub.
        weights: which of the file's, if it holds several; by default the usual ones.
        listing: only names, shapes and types will be looked at, which also a file of Paddle has.
        allow_download: may what is not in the hub's cache be downloaded?

    Raises:
        UserError: the file is no checkpoint, or holds no such weights.

    Examples:
        >>> import ablate_kit as ak
        >>> with ak.open_checkpoint("builtin:shapes_tiny") as checkpoint:
        ...     len(checkpoint.tensors)
        334
    """
    with downloads(allowed=allow_download):
        return checkpoints.open_checkpoint(Path(fspath(path)), weights, listing=listing)


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
        checkpoints.open_checkpoint(Path(first), listing=True) as a,
        checkpoints.open_checkpoint(Path(second), listing=True) as b,
    ):
        return BY[by](a, b, list(a.tensors), list(b.tensors))
