"""Versions of this package and of those at work. A leaf: every subpackage may import it."""

import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata

from ablate_kit import __version__

_PACKAGES = {"numpy": "numpy", "scipy": "scipy", "PIL": "pillow", "torch": "torch"}  # by modules


def versions_here(also: Iterable[str] = ()) -> dict[str, str]:
    """Of this package, Python, and the packages at work: those that every run imports, if this
    process has, and those that a run has ``also`` used. What else it imported made no number."""
    found = {"ablate_kit": __version__, "python": platform.python_version()}
    for name, package in _PACKAGES.items():
        if name in sys.modules:  # which says for what torch was built, as its metadata need not
            found[package] = str(sys.modules[name].__version__)
    for package in also:
        with suppress(metadata.PackageNotFoundError):  # a folder of its source on the path
            found[package] = metadata.version(package)
    return found
