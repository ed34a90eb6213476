"""Files of ``torch.save`` before 1.6, and later ones without the zip archive.

One behind the other: a magic number, a protocol version, sizes of C types, the saved object and the
list of storage keys, each a pickle; then for each key, in the list's order, the number of elements
(8 bytes) and the elements. After ``_legacy_load`` of ``torch/serialization.py``.
"""

from functools import partial
from typing import Any

from ablate_kit.checkpoints.dtypes import ITEM_SIZES, QUANTIZED_STORAGES, TORCH_STORAGES
from ablate_kit.checkpoints.pickle.interpret import UnfinishedError, interpret
from ablate_kit.checkpoints.pickle.torch_tensors import StorageView, read_tree, unreadable
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import Storage, TensorInfo
from ablate_kit.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# What is read first: the pickles of most checkpoints are smaller.
_FIRST_WINDOW = 1 << 18


def read_torch_legacy(source: FileSource) -> tuple[list[TensorInfo], dict[Any, Any]]:
    """The named tensors and the tree of plain data, as ``read_tree`` gives them."""
    stream, start, described, keys, end = _pickles(source)
    located = _located(source, described, keys, end)
    return read_tree(source, stream, start, partial(_referred_to, described, located))


def _pickles(source: FileSource) -> tuple[bytes, int, "_Described", list[Any], int]:
    """The first bytes of the file with all its pickles; where the saved object starts, which
    storages it describes, the list of their keys, and where that ends.

    Where the pickles end is known when they are read: more is read until they do. Interpreting the
    saved object for its storages alone comes first because where they lie follows it.
    """
    window = _FIRST_WINDOW
    while True:
        stream = source.read(0, min(window, source.size))
        try:
            magic, at = interpret(stream)
            version, at = interpret(stream, start=at)
            if magic != MAGIC or version != _PROTOCOL:
                raise CheckpointError(
                    f"its magic number {show(magic, 40)} and version {show(version, 40)} are not "
                    "torch's"
                )
            _, start = interpret(stream, start=at)
            described = _Described()
            _, at = interpret(stream, constructors={}, persistent=described.note, start=start)
            keys, end = interpret(stream, start=at)
        except UnfinishedError as error:
            if window >= source.size:
                raise unreadable(source, error) from None
            window *= 4
        except CheckpointError as error:
            raise unreadable(source, error) from None
        else:
            if not isinstance(keys, list):
                raise _damaged(source, f"its list of storages is {show(keys, 60)}")
            return stream, start, described, keys, end


class _Described(dict[str, tuple[str, int]]):
    """Class and number of elements of every storage that persistent ids describe, by key."""

    def note(self, identifier: Any) -> Any:
        match identifier:
            case ("storage", UnresolvedObject(args=None) as kind, key, _, int() as numel, _) if (
                numel >= 0
            ):
                found = kind.qualname, numel
                if self.setdefault(_spelled(key), found) != found:
                    raise CheckpointError(f"it describes storage {show(key, 40)} in two ways")
                return kind
            case ("module", UnresolvedObject(args=None) as kind, _, _):
                return kind  # a class, beside the text of its source
        raise CheckpointError(f"it refers to {show(identifier, 80)}, which is no storage")


def _located(
    source: FileSource, described: _Described, keys: list[Any], end: int
) -> dict[str, Storage]:
    """The storages in the file by their keys; the first one's length is at ``end``."""
    located: dict[str, Storage] = {}
    try:
        listed = [_spelled(key) for key in keys]
    except CheckpointError as error:
        raise unreadable(source, error) from None
    for key in listed:
        if key in located or key not in described:
            times = "twice" if key in located else "without a tensor that uses it"
            raise _damaged(source, f"it lists storage {show(key, 40)} {times}")
        kind, numel = described[key]
        if kind not in TORCH_STORAGES and kind not in QUANTIZED_STORAGES:
            raise CheckpointError(
                f"{source.path} cannot be read as a checkpoint: how many bytes an element of a "
                f"{show(kind, 60)} has is not known"
            )
        found = int.from_bytes(source.read(end, 8), "little", signed=True)
        if found != numel:
            raise _damaged(
                source,
                f"storage {show(key, 40)} should hold {show(numel)} elements, but has {found}",
            )
        nbytes = numel * (QUANTIZED_STORAGES.get(kind) or ITEM_SIZES[TORCH_STORAGES[kind]])
        if end + 8 + nbytes > source.size:
            raise _damaged(
                source, f"storage {show(key, 40)} reaches beyond the end of the file: cut short?"
            )
        located[key] = Storage(source.path, key, end + 8, nbytes)
        end += 8 + nbytes
    for key in described:
        if key not in located:
            raise _damaged(source, f"storage {show(key, 40)} is missing from the file")
    return located


def _referred_to(described: _Described, located: dict[str, Storage], identifier: Any) -> Any:
    """The storage of ``("storage", class, key, location, numel, view)``, where a view is None
    or (its key, offset, elements); the class of ``("module", class, file, source)``."""
    kind = described.note(identifier)
    if identifier[0] == "module":
        return kind
    _, _, key, _, numel, view = identifier
    dtype = TORCH_STORAGES.get(kind.qualname)
    if dtype is None:
        return UnresolvedObject(kind.module, kind.qualname, (key, numel))
    storage = located[_spelled(key)]
    match view:
        case None:
            return StorageView(dtype, storage)
        case (_, int() as offset, int() as count) if 0 <= offset <= offset + count <= numel:
            size = ITEM_SIZES[dtype]
            return StorageView(dtype, storage, offset * size, count * size)
    raise CheckpointError(f"it has a view {show(view, 60)} of a storage of {numel} elements")


def _spelled(key: Any) -> str:
    """A storage's key: text, but a number in the oldest files."""
    if isinstance(key, str | int):
        return str(key)
    raise CheckpointError(f"it refers to storage {show(key, 60)}, which is no key")


def _damaged(source: FileSource, what: str) -> CheckpointError:
    return CheckpointError(f"{source.path} is a damaged or truncated legacy torch file: {what}")
