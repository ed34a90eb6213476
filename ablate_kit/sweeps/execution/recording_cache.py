"""Recordings of unmodified models in a folder, for sweeps that come later.

A recording belongs to one batch of prepared images, byte for byte, to a model's code and to all
beside its weights that changes a bit. It holds the digest of every weight: up to the first use of
one that has changed since, it is as good as new.

    FOLDER/cache.json                           what this folder is
    FOLDER/ENVIRONMENT/IMAGES-WEIGHTS.safetensors
    FOLDER/ENVIRONMENT/WEIGHTS.json             what was checked of them (``certificate``)
    FOLDER/prepared/images-KEY.safetensors      (``prepared_images``)
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.detect import device_of
from ablate_kit.models.device import gpu_libraries
from ablate_kit.sweeps.execution.certificate import Certificate
from ablate_kit.sweeps.execution.identities import CallId, Identities, Key
from ablate_kit.sweeps.execution.stored_recording import StoredRecording, Structures, decode, encode
from ablate_kit.sweeps.execution.trace import Trace
from detector.disk.atomic import is_temporary, new_stream, new_text, remove_torn
from detector.disk.lines import key_of
from detector.tensor_bytes import tensor_digest

CAPACITY = 10 << 30  # bytes, unless told otherwise
ABOUT = "cache.json"
FORMAT = {"format": "recordings of ablate sweep", "version": 1}
PREPARED = "prepared"  # the folder of prepared images
OTHERS = 4  # recordings of models with other weights that are looked at


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


class ModelRecordings:
    """Those of one model, as long as its tensors do not change but for a while."""

    def __init__(self, cache: RecordingCache, module: nn.Module) -> None:
        self._cache = cache
        self._device = device_of(module)
        self._folder = cache.folder / environment(module)
        identities = Identities(module)
        self._weights: dict[Key, str] = {
            key: " ".join(map(tensor_digest, tensors))
            for key, tensors in identities.tensors.items()
        }
        told = sorted([*key, digest] for key, digest in self._weights.items())
        self._name = key_of(json.dumps(told))
        self.certificate = Certificate(self._folder / f"{self._name}.json")
        self.notes: list[str] = []
        self._full = False

    def trace(self, images: str) -> Trace | None:
        """That of a pass of this very model over these images, without any output."""
        path = self._path(images)
        try:
            found = decode(path, (), {}, self._device)
        except FileNotFoundError:
            return None
        except Exception:  # whatever a damaged file ends in: it is made anew
            _remove(path)
            return None
        return found.trace if found.weights == self._weights else None

    def load(
        self, images: str, wanted: Collection[CallId], structures: Structures
    ) -> tuple[StoredRecording, list[Key]] | None:
        """A recording of these images, and the tensors that have changed since it was made."""
        own = self._path(images)
        others = [one for one in self._folder.glob(f"{images}-*.safetensors") if one != own]
        best: tuple[StoredRecording, list[Key]] | None = None
        for path in [own, *others[:OTHERS]]:
            try:
                found = decode(path, wanted, structures, self._device)
            except FileNotFoundError:
                continue
            except Exception:  # whatever a damaged file ends in: it is made anew
                _remove(path)
                continue
            with suppress(OSError):  # in a folder that is only read
                os.utime(path)
            changed = [
                key
                for key in {**self._weights, **found.weights}
                if self._weights.get(key) != found.weights.get(key)
            ]
            if not changed:
                return found, []
            if best is None or found.trace.restart(changed) > best[0].trace.restart(best[1]):
                best = found, changed
        return best

    def save(self, images: str, trace: Trace, result: Any, keep: Collection[CallId]) -> None:
        """Adds to what is there of these images; where that cannot be, a note says so once."""
        if self._full:
            return
        path = self._path(images)
        try:
            data = encode(trace, result, keep, self._weights, path if path.exists() else None)
            self._full = not self._cache.put(path, data)
            if self._full:
                self.notes.append(
                    f"{self._cache.folder} is full: what comes after is not kept for later sweeps; "
                    "--cache-size takes more"
                )
        except (OSError, UserError) as error:
            self._full = True
            reason = str(error)
            if isinstance(error, OSError) and error.strerror:
                reason = f"cannot write {error.filename}: {error.strerror}"
            self.notes.append(f"no more is kept for later sweeps: {reason}")

    def _path(self, images: str) -> Path:
        return self._folder / f"{images}-{self._name}.safetensors"


def _remove(path: Path) -> None:
    with suppress(OSError):  # in a folder that is only read, it is passed over each time
        path.unlink(missing_ok=True)


def images_digest(inputs: Mapping[str, Tensor]) -> str:
    """Of a batch of prepared images."""
    told = [[name, tensor_digest(tensor)] for name, tensor in sorted(inputs.items())]
    return key_of(json.dumps(told))


def environment(module: nn.Module) -> str:
    """A digest of all but weights and images that changes a bit of what a model computes."""
    device = device_of(module)
    gpu = device.type == "cuda"
    tops, files = set(), set()
    for kind in {type(one) for one in module.modules()}:
        top = kind.__module__.partition(".")[0]
        library = sys.modules.get(top)
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if hasattr(library, "__version__"):
            tops.add((top, str(library.__version__)))  # type: ignore[union-attr]
        elif file:
            files.add(str(Path(file).parent))
    told = {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if gpu else device.type,
        "libraries": gpu_libraries() if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "deterministic": True,  # kernels, in every pass of a sweep
        "versions": sorted(tops),
        "code": [*code_of(), *map(_code_in, sorted(files))],
        "model": repr(module),
        "config": repr(getattr(module, "config", None)),
    }
    return key_of(json.dumps(told))


def code_of() -> list[str]:
    """Digests of our own code, and of that of the hybrid detector beside it."""
    here = Path(__file__).parents[2]
    return [_code(here), _code(here.parent / "detector")]


@lru_cache
def _code(folder: Path) -> str:
    return _digest_of_files(sorted(folder.rglob("*.py")))


def _code_in(folder: str) -> str:
    return _digest_of_files(sorted(Path(folder).glob("*.py")))


def _digest_of_files(files: Collection[Path]) -> str:
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()
