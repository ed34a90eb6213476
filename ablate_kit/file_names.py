"""Names of files that are made from names in a file. A leaf: every subpackage may import it.

Whatever a checkpoint calls its tensors, modules, classes and images: what is written for them lies
directly in the folder that the user gave, under a name that every file system takes.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ablate_kit.errors import UserError

# Of a name's 255 bytes the rest is for what is put around it: a suffix, the name of a receipt, and
# the temporary name that a file has while it is written.
LONGEST = 200
_DIGITS = 16

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
# As devices, with whatever suffix: Windows.
_DEVICES = {"con", "prn", "aux", "nul", "clock$", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
_MARKED = re.compile(rf"~[0-9a-f]{{{_DIGITS}}}$")


def files_in(
    folder: Path,
    names: Sequence[str],
    suffix: str = "",
    *,
    what: str = "variants",
    taken: Sequence[str] = (),
) -> list[Path]:
    """Where the files of ``names`` are: directly in ``folder``, each its own.

    An ordinary name stays as it is. What no file can be called is replaced, and such a name, one
    that is too long, and one that differs from another only as some file systems do not see it
    (capitals, composed letters) end in ``~`` and a digest of the whole name. Raises ``UserError``
    where two of the names are equal.

    Args:
        what: the names are of, for the error.
        taken: names, without suffix, of other files of the folder.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f'two {what} are called "{twice[0]}"; their files would be one')
    seen = Counter(map(_folded, (*names, *taken)))
    stems = [_stem(name, alone=seen[_folded(name)] == 1) for name in names]
    return [folder / f"{stem}{suffix}" for stem in stems]


def numbered(index: int, name: str) -> str:
    """The start of a file's name for one of a sequence, which its number alone tells apart."""
    return f"{index:03d}_{_cut(_plain(name), LONGEST)}".rstrip(". ")


def _stem(name: str, *, alone: bool) -> str:
    plain = _plain(name)
    device = plain.partition(".")[0].rstrip().casefold() in _DEVICES
    # Hidden, an option of a command, or a name that Windows shortens.
    edges = plain[:1] in (".", "-", " ", "") or plain[-1:] in (".", " ")
    long = len(plain.encode()) > LONGEST
    if alone and plain == name and not (device or edges or long or _MARKED.search(_folded(name))):
        return name
    mark = f"~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:_DIGITS]}"
    start = "_" if device or plain[:1] in (".", "-", " ", "") else ""
    return start + _cut(plain, LONGEST - len(mark) - len(start)) + mark


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in _FORBIDDEN.sub("_", name))


def _cut(text: str, size: int) -> str:
    """The first ``size`` bytes, less a letter that is cut in two."""
    return text.encode()[:size].decode(errors="ignore")


def _folded(name: str) -> str:
    """What is the same for names that some file system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
