"""Recordings of one unmodified model, found again by later sweeps.

A recording belongs to one batch of prepared images, byte for byte, to a model's code and to all
beside its weights that changes a bit. It holds the digest of every weight: up to the first use of
one that has changed since, it is as good as new.
"""

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.inference.detect import device_of
from ablate_kit.models.inference.device import gpu_libraries
from ablate_kit.sweeps.execution.certificate import Certificate
from ablate_kit.sweeps.execution.identities import CallId, Identities, Key
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.execution.stored_recording import StoredRecording, Structures, decode, encode
from ablate_kit.sweeps.execution.trace import Trace
from detector.disk.lines import key_of
from detector.tensor_bytes import tensor_digest

OTHERS = 4  # recordings of models with other weights that are looked at


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
        found = self._read(self._path(images), (), {})
        return found.trace if found and found.weights == self._weights else None

    def load(
        self, images: str, wanted: Collection[CallId], structures: Structures
    ) -> tuple[StoredRecording, list[Key]] | None:
        """A recording of these images, and the tensors that have changed since it was made."""
        own = self._path(images)
        others = [one for one in self._folder.glob(f"{images}-*.safetensors") if one != own]
        best: tuple[StoredRecording, list[Key]] | None = None
        for path in [own, *others[:OTHERS]]:
            found = self._read(path, wanted, structures)
            if found is None:
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

    def _read(
        self, path: Path, wanted: Collection[CallId], structures: Structures
    ) -> StoredRecording | None:
        """None where there is none, or none that is whole."""
        try:
            return decode(path, wanted, structures, self._device)
        except FileNotFoundError:
            return None
        except Exception:  # whatever a damaged file ends in: it is made anew
            with suppress(OSError):  # in a folder that is only read, it is passed over each time
                path.unlink(missing_ok=True)
            return None

    def _path(self, images: str) -> Path:
        return self._folder / f"{images}-{self._name}.safetensors"


def images_digest(inputs: Mapping[str, Tensor]) -> str:
    """Of a batch of prepared images."""
    told = [[name, tensor_digest(tensor)] for name, tensor in sorted(inputs.items())]
    return key_of(json.dumps(told))


def environment(module: nn.Module) -> str:
    """A digest of all but weights and images that changes a bit of what a model computes."""
    device = device_of(module)
    gpu = device.type == "cuda"
    tops, folders = set(), set()
    for kind in {type(one) for one in module.modules()}:
        top = kind.__module__.partition(".")[0]
        library = sys.modules.get(top)
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if hasattr(library, "__version__"):
            tops.add((top, str(library.__version__)))  # type: ignore[union-attr]
        elif file:
            folders.add(Path(file).parent)
    told = {
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if gpu else device.type,
        "libraries": gpu_libraries() if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "deterministic": True,  # kernels, in every pass of a sweep
        "versions": sorted(tops),
        "code": [
            *code_of(),
            *(_digest_of_files(sorted(one.glob("*.py"))) for one in sorted(folders)),
        ],
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


def _digest_of_files(files: Collection[Path]) -> str:
    hashed = hashlib.sha256()
    for file in files:
        hashed.update(hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()
