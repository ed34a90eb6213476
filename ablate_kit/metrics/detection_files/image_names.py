"""The images of a ground truth by the names that dumps have for them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

UNKNOWN, SEVERAL = -1, -2

# ".jpg", but not what names end in by themselves: ".0001", ".rf.a1b2c3d4".
_SUFFIX = re.compile(r"\.[A-Za-z]\w{1,4}$")


@dataclass(frozen=True)
class ImageNames:
    """Looks images up by file name, path or stem."""

    whole: Mapping[str, int]  # file names as the data set spells them
    # These and all that they end in, as ``b/1.jpg`` and ``1.jpg`` of ``a/b/1.jpg``, without suffix.
    endings: Mapping[str, int]

    @classmethod
    def of(cls, files: Sequence[str]) -> "ImageNames":
        whole: dict[str, int] = {}
        endings: dict[str, int] = {}
        for index, file in enumerate(files):
            path = _path(file)
            if path.name:
                _add(whole, str(path), index)
                for ending in _endings(path.with_suffix("")):
                    _add(endings, ending, index)
        return cls(whole, endings)

    def find(self, name: str) -> int:
        """The position of the image; ``UNKNOWN``, or ``SEVERAL`` where images share the name.

        A path that is longer than the data set's is as good; its suffix counts only where needed.
        """
        path = _path(name)
        if not path.name:
            return UNKNOWN
        for ending in _endings(path):
            for known, key in (
                (self.whole, ending),
                (self.endings, ending),
                (self.endings, _SUFFIX.sub("", ending)),
            ):
                if key in known:
                    return known[key]
        return UNKNOWN


def _path(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _endings(path: PurePosixPath) -> Iterator[str]:
    """The longest first."""
    parts = [part for part in path.parts if part != "/"]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _add(known: dict[str, int], name: str, index: int) -> None:
    known[name] = SEVERAL if known.get(name, index) != index else index
