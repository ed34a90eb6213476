"""The arrays of an npz file, read up to a size: a small one can hold very large ones."""

import zlib
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from detector.disk.bounded import DOCUMENT, allowed, opened, too_large


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name, of which none is an object.

    Raises:
        UserError: no such file, a broken one, or more bytes than are read.
    """
    try:
        with opened(path) as raw, ZipFile(raw) as archive:
            members = archive.infolist()
            most = allowed(DOCUMENT)
            if sum(member.file_size for member in members) > most:
                raise too_large(path, most)
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except (
        *(OSError, EOFError, ValueError, BadZipFile, zlib.error),
        *(RuntimeError, NotImplementedError),  # encrypted, or packed in a way of its own
    ) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable npz file of arrays ({reason})") from None


def _array(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed in another way than numpy packs")
    with archive.open(member) as file:
        _check_size(file, member)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_size(file: IO[bytes], member: ZipInfo) -> None:
    """Refuses an array that says that it is larger than it is: numpy makes room for it first."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"{member.filename} is of the version {version[0]}.{version[1]}")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds objects")
    count = 1
    for size in shape:
        count *= size
    if count < 0 or min(shape, default=0) < 0 or count * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} says that it is larger than it is")
