"""A folder of recordings of unmodified models, for sweeps that come later.

A recording is of one batch of images (``model_recordings``).

    FOLDER/cache.json                           what this folder is
    FOLDER/ENVIRONMENT/IMAGES-WEIGHTS.safetensors
    FOLDER/ENVIRONMENT/WEIGHTS.json             what was checked of them (``certificate``)
    FOLDER/prepared/images-KEY.safetensors      (``prepared_images``)
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ablate_kit.errors import UserError
from detector.disk.atomic import is_temporary, new_stream, new_text, remove_torn

CAPACITY = 10 << 30  # bytes, unless told otherwise
ABOUT = "cache.json"
FORMAT = {"format": "recordings of ablate sweep", "version": 1}
PREPARED = "prepared"  # the folder of prepared images


@dataclass(frozen=True)
class Entry:
    """One recording."""

    path: Path
    nbytes: int
    used: float  # when it was last read or written; seconds since 1970


class RecordingCache:
    """A folder of recordings that never grows beyond ``capacity`` bytes.

    What was not used since this object was made goes first, the longest unused before others;
    where that is not enough, nothing more is stored. To throw out what was just stored would serve
    nobody: the next sweep begins with the first batch.
    """

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.folder = folder
        self._capacity = capacity
        self._begun = time.time()
        self._turn = Lock()  # of threads that store

    def check(self) -> None:
        """Raises ``UserError`` for a folder that holds something else."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file; expected a folder for recordings")
        if not self.folder.is_dir() or all(map(is_temporary, self.folder.iterdir())):
            return  # another process may be about to write what the folder is
        try:
            known = json.loads((self.folder / ABOUT).read_text()) == FORMAT
        except (OSError, ValueError):
            known = False
        if not known:
            raise UserError(
                f"{self.folder} holds something else than recordings of this version; choose an "
                "empty folder, or a new one"
            )

    def entries(self) -> list[Entry]:
        """The longest unused first."""
        found = []
        for path in self.folder.glob("*/*-*.safetensors"):
            try:
                status = path.stat()
            except OSError:
                continue  # another process has just removed it
            found.append(Entry(path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda one: one.used)

    def clear(self) -> tuple[int, int]:
        """Removes all recordings; returns how many there were, and their bytes."""
        found = self.entries()
        for one in found:
            one.path.unlink(missing_ok=True)
        torn = self._forget_torn()
        others = list(self.folder.glob("*/*.json"))
        for path in others:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in [*torn, *others, *(one.path for one in found)]}:
            with suppress(OSError):  # a sweep is writing there
                folder.rmdir()
        return len(found), sum(one.nbytes for one in found)

    def put(self, path: Path, data: bytes, share: float = 1) -> bool:
        """Whether there was room for it.

        ``share``: of the capacity, that all files in its folder may take.
        """
        with self._turn:
            if not (self.folder / ABOUT).exists():  # first: without it the folder would be refused
                self.folder.mkdir(parents=True, exist_ok=True)
                new_text(self.folder / ABOUT, json.dumps(FORMAT) + "\n", overwrite=True)
            found = [one for one in self.entries() if one.path != path]
            beside = [one for one in found if one.path.parent == path.parent]
            for among, most in ((beside, share * self._capacity), (found, self._capacity)):
                excess = sum(one.nbytes for one in among if one.path.exists()) + len(data) - most
                unused = [one for one in among if one.used < self._begun and one.path.exists()]
                if excess > sum(one.nbytes for one in unused):
                    return False
                for one in unused:
                    if excess <= 0:
                        break
                    one.path.unlink(missing_ok=True)
                    excess -= one.nbytes
            self._forget_torn()
            path.parent.mkdir(exist_ok=True)
            with new_stream(path, overwrite=True) as file:
                file.write(data)
            return True

    def _forget_torn(self) -> list[Path]:
        """Removes what killed processes have left, not what is being written; all of these."""
        found = list(self.folder.glob("*/.*.tmp"))
        for path in found:
            remove_torn(path)
        return found
