"""Batches of prepared images in a folder of recordings: a later sweep decodes no photograph.

A batch is found by the bytes of its images as they are stored, never by their names or dates, and
by all else that decides how they are prepared: settings and versions of what does it, the decoders
of Pillow, and our own code.

    FOLDER/prepared/images-KEY.safetensors
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import features
from safetensors import safe_open
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.sweeps.execution.model_recordings import code_of
from ablate_kit.sweeps.execution.recording_cache import PREPARED, RecordingCache
from ablate_kit.sweeps.execution.stored_recording import read_signed, signed
from detector.data.dataset import Dataset
from detector.disk.lines import key_of
from detector.tensor_bytes import tensor_digest

SHARE = 0.25  # of the folder; recordings, which save more, have the rest
FORMAT = 1

_ABOUT = "prepared"  # in the file's metadata
_CODECS = ("jpg", "libjpeg_turbo", "jpg_2000", "zlib", "libtiff", "webp", "avif")
_CODES = 256  # values of a channel that fit a byte


class PreparedImages:
    """Those of one data set, prepared for one model.

    Args:
        about: what ``Preparing.preparation`` tells.
    """

    def __init__(self, kept: RecordingCache, about: Mapping[str, Any], dataset: Dataset) -> None:
        self._kept = kept
        self._dataset = dataset
        self._about = key_of(json.dumps([FORMAT, about, _environment()], sort_keys=True))
        self._keys: dict[tuple[int, ...], str] = {}

    @staticmethod
    def of(
        kept: RecordingCache | None, adapter: Adapter, dataset: Dataset
    ) -> "PreparedImages | None":
        """None where nothing is kept, or a model does not tell how its images are prepared."""
        told = getattr(adapter, "preparation", None)
        about = told() if kept and told else None
        return PreparedImages(kept, about, dataset) if kept and about else None

    def has(self, indices: Sequence[int]) -> bool:
        """Whether there is something of these images; reads them as they are stored."""
        self._keys[tuple(indices)] = key = self._key(indices)
        return self._path(key).is_file()

    def load(self, indices: Sequence[int]) -> list[Prepared] | None:
        """None where nothing is there, or nothing that is whole."""
        path = self._path(self._keys[tuple(indices)])
        try:
            found = _decoded(path)
        except Exception:  # whatever a damaged file ends in: it is made anew
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # in a folder that is only read
            os.utime(path)
        return found if len(found) == len(indices) else None

    def save(self, indices: Sequence[int], prepared: Sequence[Prepared]) -> None:
        """For later sweeps, where there is room; not where an image has changed since ``has``."""
        key = self._keys[tuple(indices)]
        data = _encoded(prepared)
        with suppress(OSError, UserError):  # what cannot be kept is prepared again
            if data is not None and self._key(indices) == key:
                self._kept.put(self._path(key), data, SHARE)

    def _key(self, indices: Sequence[int]) -> str:
        told: list[Any] = [self._about]
        for index in indices:
            notes = self._dataset.annotations(index)  # of another size an image is refused
            stored = hashlib.sha256(self._dataset.stored(index)).hexdigest()
            told.append([stored, notes.width, notes.height])
        return key_of(json.dumps(told))

    def _path(self, key: str) -> Path:
        return self._kept.folder / PREPARED / f"images-{key}.safetensors"


@cache
def _environment() -> dict[str, Any]:
    """All but the images and what the adapter tells that may change a bit."""
    versions = {}
    for package in ("numpy", "torch", "torchvision"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "pillow": [PIL.__version__, *(features.version(one) for one in _CODECS)],
        "machine": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "code": code_of(),
    }


def _encoded(prepared: Sequence[Prepared]) -> bytes | None:
    """None where something among them cannot be stored."""
    tensors: dict[str, Tensor] = {}
    told = []
    for i, one in enumerate(prepared):
        if not isinstance(one.origin, tuple) or {type(part) for part in one.origin} != {int}:
            return None
        inputs = {}
        for name, tensor in one.inputs.items():
            if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
                return None
            plain = tensor.contiguous()
            coded = _coded(plain)
            for part, what in zip(("", ".values"), coded or (plain,), strict=False):
                tensors[f"{i}.{name}{part}"] = what
            inputs[name] = {
                "stride": list(tensor.stride()),  # kernels are chosen by it
                "coded": coded is not None,
                "digest": [tensor_digest(what) for what in coded or (plain,)],
            }
        told.append({"origin": list(one.origin), "inputs": inputs})
    return safetensors.torch.save(tensors, {_ABOUT: signed(told)})


def _decoded(path: Path) -> list[Prepared]:
    """Raises some ``Exception`` for a file that is damaged, or is none of ours."""
    with safe_open(path, "pt") as file:
        found = []
        for i, one in enumerate(read_signed(file.metadata()[_ABOUT])):
            inputs = {}
            for name, about in one["inputs"].items():
                parts = [file.get_tensor(f"{i}.{name}")]
                if about["coded"]:
                    parts.append(file.get_tensor(f"{i}.{name}.values"))
                if [tensor_digest(part) for part in parts] != about["digest"]:
                    raise ValueError("its bytes are not those that were written")
                plain = _values(*parts) if about["coded"] else parts[0]
                if list(plain.stride()) != about["stride"]:
                    empty = torch.empty_strided(plain.shape, about["stride"], dtype=plain.dtype)
                    plain = empty.copy_(plain)
                inputs[name] = plain
            found.append(Prepared(inputs, tuple(int(part) for part in one["origin"])))
    return found


def _coded(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """An image in a byte for each number, and what the bytes of each channel stand for, exactly:
    pixels of 8 bits stay so few values, however they are scaled. None where that cannot be."""
    if tensor.dtype != torch.float32 or tensor.dim() != 4 or not tensor.numel():
        return None
    channels = tensor.flatten(0, 1).flatten(1).numpy()
    codes = np.empty(channels.shape, np.uint8)
    values = np.zeros((len(channels), _CODES), np.float32)
    for channel, code, row in zip(channels, codes, values, strict=True):
        known = np.unique(channel)
        if len(known) > _CODES:
            return None
        row[: len(known)] = known
        place = _places(known)
        code[:] = place(channel) if place else 0
        if not np.array_equal(row[code].view(np.int32), channel.view(np.int32)):
            return None
    return torch.from_numpy(codes).view(tensor.shape), torch.from_numpy(values)


def _places(known: NDArray[np.float32]) -> Any:
    """Which of some rising numbers each number is, quicker than by search: they are multiples of a
    step, nearly. None where there is only one; what is no such number gets a wrong answer."""
    if len(known) < 2 or not np.isfinite(known).all():
        return None
    step = float(np.diff(known).min())
    last = (float(known[-1]) - float(known[0])) / step
    if step < 1e-30 or last >= 1 << 16:
        return None
    table = np.zeros(int(last) + 2, np.uint8)

    def steps(numbers: NDArray[np.float32]) -> NDArray[np.int32]:
        return np.rint((numbers - known[0]) * np.float32(1 / step)).astype(np.int32)

    table[steps(known)] = np.arange(len(known))
    return lambda numbers: table[steps(numbers)]


def _values(codes: Tensor, values: Tensor) -> Tensor:
    rows = codes.flatten(0, 1).flatten(1).numpy()
    found = np.empty(rows.shape, np.float32)
    for row, code, own in zip(found, rows, values.numpy(), strict=True):
        np.take(own, code, out=row)
    return torch.from_numpy(found).view(codes.shape)
