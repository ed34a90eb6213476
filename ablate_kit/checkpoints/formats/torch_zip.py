"""Files of ``torch.save`` (1.6 and later): a zip archive of a pickle and one record per storage.

``NAME/data.pkl`` is a pickle whose persistent ids name storages, ``NAME/data/KEY`` holds the bytes
of storage KEY.
"""

import zlib
from collections.abc import Iterable
from typing import Any

from ablate_kit.checkpoints.dtypes import ITEM_SIZES, TORCH_STORAGES
from ablate_kit.checkpoints.formats.detect_format import ELSEWHERE
from ablate_kit.checkpoints.formats.zip_records import ZipRecord, torchscript, zip_records
from ablate_kit.checkpoints.pickle.torch_tensors import StorageView, read_tree
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.source import FileSource, damaged
from ablate_kit.checkpoints.tensors import Storage, TensorInfo
from ablate_kit.errors import CheckpointError

_WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pkl")


def read_torch_zip(source: FileSource) -> tuple[list[TensorInfo], dict[Any, Any]]:
    """The named tensors and the tree of plain data of a torch zip file.

    Both as ``read_tree`` gives them.
    """
    records = zip_records(source)
    prefix = _prefix(source, records)
    pickled = records[f"{prefix}data.pkl"]
    stream = source.read(pickled.offset, pickled.nbytes)
    if pickled.crc not in (None, zlib.crc32(stream)):
        raise damaged(source, "its description of the tensors (data.pkl)")
    storages = _Storages(source, records, prefix)
    return read_tree(source, stream, 0, storages.find)


def _prefix(source: FileSource, records: dict[str, ZipRecord]) -> str:
    """``"NAME/"`` of a file that holds a checkpoint."""
    found = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise CheckpointError(
            f"{source.path} is a zip archive, but not one of torch.save: {_words(records, found)}"
        )
    prefix = found[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in records:
        raise torchscript(source)
    order = records.get(f"{prefix}byteorder")
    if order is not None and source.read(order.offset, min(order.nbytes, 16)) != b"little":
        raise CheckpointError(f"{source.path} was written on a big-endian machine")
    return prefix


def _words(names: Iterable[str], found: list[str]) -> str:
    """What a zip archive is that holds no checkpoint, or several, and what to do about it."""
    names = list(names)
    inner = {name.rpartition("/")[2] for name in names}
    if inner & {"archive_format", "serialized_exported_program.json", "serialized_state_dict.json"}:
        return (
            "it is a program of torch.export; save the model's state_dict() with torch.save, or "
            "torch.export.load(FILE).state_dict"
        )
    if "extern_modules" in inner:
        return "it is of torch.package; load its model, and save the state_dict() with torch.save"
    if "model.weights.h5" in inner:
        return f"it is a model of Keras{ELSEWHERE}"
    if names and all(name.endswith(".npy") for name in names):
        return "it holds arrays of NumPy (np.savez); write them with safetensors.numpy.save_file"
    weights = [name for name in names if name.lower().endswith(_WEIGHTS)]
    if weights and not found:
        return f"unpack {show(weights[0], 60)} first"
    return f"it has {len(found) or 'no'} data.pkl"


class _Storages:
    """The storages that a pickle's persistent ids refer to."""

    def __init__(self, source: FileSource, records: dict[str, ZipRecord], prefix: str) -> None:
        self._source = source
        self._records = records
        self._prefix = prefix
        self._known: dict[str, tuple[str, int, Any]] = {}

    def find(self, identifier: Any) -> Any:
        """The storage of a persistent id ``("storage", class, key, location, numel)``."""
        match identifier:
            case ("storage", UnresolvedObject(args=None) as kind, str() as key, _, int() as numel):
                known = self._known.get(key)
                if known is None:
                    known = kind.qualname, numel, self._located(kind, key, numel)
                    self._known[key] = known
                if known[:2] != (kind.qualname, numel):
                    raise CheckpointError(f"it describes storage {show(key, 40)} in two ways")
                return known[2]
        raise CheckpointError(f"it refers to {show(identifier, 80)}, which is no storage")

    def _located(self, kind: UnresolvedObject, key: str, numel: int) -> Any:
        record = self._records.get(f"{self._prefix}data/{key}")
        if record is None:
            raise CheckpointError(f"storage {show(key, 40)} is missing from the file")
        dtype = TORCH_STORAGES.get(kind.qualname)
        if dtype is None:
            return UnresolvedObject(kind.module, kind.qualname, (key, numel))
        # A storage of bytes may be a little larger than its whole elements.
        if not 0 <= record.nbytes - numel * ITEM_SIZES[dtype] < ITEM_SIZES[dtype]:
            raise CheckpointError(
                f"storage {show(key, 40)} should hold {show(numel)} {dtype} elements, "
                f"but has {record.nbytes} bytes"
            )
        path, offset, nbytes = self._source.path, record.offset, record.nbytes
        storage = Storage(path, key, offset, nbytes, record.crc, record.checksums)
        return StorageView(dtype, storage)
