"""Keeps libtiff from writing to standard error: what is wrong with a file, Pillow raises.

Pillow turns libtiff's warnings off and leaves its lines on errors, which say neither which file
nor that one line of ours follows. The function is looked up in Pillow's own library, so that other
users of libtiff in the process keep theirs; where it is not found there, all stays as it is.
"""

import ctypes
from contextlib import suppress
from functools import cache

from PIL import _imaging


@cache
def quiet_tiff() -> None:
    """Once for the process."""
    with suppress(AttributeError, OSError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
