"""Writing the detector's weights so that the file says what it holds."""

import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from detector.disk.atomic import new_stream
from detector.disk.safetensors_head import TensorLayout, safetensors_head
from detector.errors import UserError
from detector.tensor_bytes import bytes_of


def weights_metadata(
    config: str, classes: Sequence[str], origin: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a file of the detector's weights says of them; ``config`` is JSON, and ``origin``, where
    there is one, says what training began from."""
    metadata = {"config": config, "classes": json.dumps(list(classes))}
    return metadata | ({"origin": json.dumps(dict(origin))} if origin else {})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file; the same tensors and metadata always make the same bytes.

    One tensor is copied at a time. (safetensors' own functions hold all bytes once or twice more,
    write the metadata in random order, and make files that only their owner can read.)
    """
    head, order = safetensors_head(layout_of(tensors), metadata)

    with new_stream(path, overwrite=True) as file:
        file.write(head)
        for name in order:
            file.write(bytes_of(tensors[name]))


def layout_of(tensors: Mapping[str, Tensor]) -> TensorLayout:
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in tensors.items()
    }


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """A ``torch.save`` file; a failure leaves the earlier one."""
    with new_stream(path, overwrite=True) as file:
        save_to(file, dict(checkpoint))


def save_to(file: BinaryIO, content: object) -> None:
    """``torch.save`` to an open file; raises ``OSError`` where it cannot be written."""
    try:
        torch.save(content, file)
    except RuntimeError as error:  # of torch's zip writer, which hides what the system said
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(str(error).splitlines()[0]) from error


def load_checkpoint(path: Path, device: torch.device, what: str) -> dict[str, Any]:
    """What ``save_checkpoint`` wrote, as data; ``what`` says of which kind of run it should be."""
    if not path.exists():
        raise UserError(f"nothing to resume: {path} does not exist")
    none = UserError(f"{path} is not the checkpoint of a {what} run")
    try:
        with zipfile.ZipFile(path) as records:
            damaged = records.testzip()  # first, since torch does not look at checksums
        if damaged is not None:
            raise UserError(f"{path} is damaged: {damaged} in it does not have its checksum")
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except _BROKEN:
        raise none from None
    if not isinstance(checkpoint, dict):
        raise none
    return checkpoint


# What zipfile and torch meet in files that others wrote, or nobody.
_BROKEN = (
    AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError,
    ValueError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
