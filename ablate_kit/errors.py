"""The project's error type, under this package's name. A leaf: every subpackage may import it."""

from detector.errors import UserError, did_you_mean

__all__ = ["UserError", "did_you_mean"]
