"""The error of every function here that opens, reads or writes a checkpoint file."""

from ablate_kit.errors import UserError


class CheckpointError(UserError):
    """A file is not what it should be, or cannot be read or written; one line says why."""
