"""Versions of this package and of those at work. A leaf: every subpackage may import it."""

import platform
import sys
from importlib import metadata

from ablate_kit import __version__

_PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "PIL": "pillow",
    "torch": "torch",
    "transformers": "transformers",
    "mmdet": "mmdet",
}  # by the names of their modules


def versions_here() -> dict[str, str]:
    """Of this package, Python, and the packages that this process has imported."""
    loaded = {name: package for name, package in _PACKAGES.items() if name in sys.modules}
    return {
        "ablate_kit": __version__,
        "python": platform.python_version(),
        **{package: _version(name, package) for name, package in loaded.items()},
    }


def _version(name: str, package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a folder of its source on the path
        return str(getattr(sys.modules[name], "__version__", "unknown"))
