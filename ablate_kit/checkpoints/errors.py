"""The ``UserError`` of checkpoint files."""

from ablate_kit.errors import UserError


class CheckpointError(UserError):
    """A file is no checkpoint that can be used, or cannot be read or written; one line says why."""
