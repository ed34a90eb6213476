"""``UserError`` of the detector, which heads this package's errors, too.

A leaf: every subpackage may import it.
"""

from detector.errors import UserError, did_you_mean

__all__ = ["CheckpointError", "UserError", "did_you_mean"]


class CheckpointError(UserError):
    """A file is no checkpoint that can be used, or cannot be read or written; one line says why."""
