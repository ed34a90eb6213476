"""``UserError`` of the detector, which heads this package's errors, too.

A leaf: every subpackage may import it.
"""

from detector.errors import UserError, did_you_mean

__all__ = ["UserError", "did_you_mean"]
