"""A checkpoint as data, from Python: without torch."""

from os import PathLike, fspath
from pathlib import Path

from ablate_kit import checkpoints
from ablate_kit.api.keywords import by_keyword
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.hub import downloads


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
