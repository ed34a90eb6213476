"""An archive is a file of named tensors, or a folder of such files, open for reading."""

import gc
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from ablate_kit.checkpoints.formats.detect_format import (
    DISTRIBUTED,
    HEAD,
    Format,
    format_of,
    looks_like,
)
from ablate_kit.checkpoints.formats.folder_contents import folder_words
from ablate_kit.checkpoints.formats.numpy_pickle import read_numpy_pickle
from ablate_kit.checkpoints.formats.safetensors_file import read_safetensors
from ablate_kit.checkpoints.formats.shards import WEIGHT_FILES, is_index, read_index
from ablate_kit.checkpoints.formats.torch_legacy import read_torch_legacy
from ablate_kit.checkpoints.formats.torch_zip import read_torch_zip
from ablate_kit.checkpoints.located import located
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.source import FileSource, damaged
from ablate_kit.checkpoints.tensors import Storage, TensorInfo
from ablate_kit.errors import CheckpointError, did_you_mean
from detector.disk.visible import is_hidden

if TYPE_CHECKING:
    import torch

_READERS = {
    "safetensors": read_safetensors,
    "torch-zip": read_torch_zip,
    "torch-legacy": read_torch_legacy,
}


class Archive:
    """Named tensors, described without reading them and without importing torch.

    ``path`` is the file, or the index of a sharded checkpoint; ``sources`` are the files that hold
    tensors, by path. ``tensors`` are in file order. ``metadata`` is the ``__metadata__`` of a
    safetensors file or the ``metadata`` of an index; of a torch file it is the pickled dictionary
    as plain data, each tensor a ``TensorView`` and each object that is neither an
    ``UnresolvedObject`` (a pickle of something else than a dictionary is found under the key
    ``""``). Reading from several threads at once is safe.
    """

    def __init__(
        self,
        path: Path,
        sources: Iterable[FileSource],
        file_format: Format,
        tensors: Iterable[TensorInfo],
        metadata: Mapping[Any, Any],
    ) -> None:
        by_name: dict[str, TensorInfo] = {}
        for tensor in tensors:
            if by_name.setdefault(tensor.name, tensor) is not tensor:
                raise CheckpointError(f"{path} has two tensors named {show(tensor.name, 80)}")
        self.path = path
        self.format: Format = file_format
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(by_name)
        self.metadata: Mapping[Any, Any] = metadata
        self.sources: Mapping[Path, FileSource] = {source.path: source for source in sources}
        self._checked: set[Storage] = set()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the archive consists of, an index first."""
        return tuple(dict.fromkeys((self.path, *self.sources)))

    def tensor(self, name: str) -> TensorInfo:
        """The description of tensor ``name``; raises ``CheckpointError`` if there is none."""
        if name not in self.tensors:
            raise CheckpointError(
                f'no tensor "{name}" in {self.path}{did_you_mean(name, self.tensors)}'
            )
        return self.tensors[name]

    def read(self, name: str) -> "torch.Tensor":
        """Tensor ``name`` as torch.load gives it, same strides included, in memory of its own.

        Tensors that share bytes in the file come out separate.
        """
        import torch

        info = self.tensor(name)
        buffer = torch.empty(info.span, dtype=torch.uint8)
        self.read_into(info, buffer.numpy().data)
        elements = buffer.view(getattr(torch, info.dtype))
        return elements.as_strided(info.shape, info.stride)

    def read_into(self, info: TensorInfo, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes that a tensor spans.

        Elements are read here or by ``parts``: ``CheckpointError`` where they are not those that
        were written, as far as the format tells.
        """
        self.sources[info.file].read_into(info.offset, buffer)
        if self._is_unchecked(info.storage):
            self._hold(info, zlib.crc32(buffer) if _is_all(info) else None)

    def parts(self, info: TensorInfo, size: int) -> Iterator[bytearray]:
        """The bytes of a contiguous tensor, ``size`` at a time; at the end, as ``read_into``."""
        source, crc = self.sources[info.file], 0
        unchecked = self._is_unchecked(info.storage)
        for start in range(0, info.nbytes, size):
            buffer = bytearray(min(size, info.nbytes - start))
            source.read_into(info.offset + start, memoryview(buffer))
            crc = zlib.crc32(buffer, crc) if unchecked else 0
            yield buffer
        if unchecked:
            self._hold(info, crc if _is_all(info) else None)

    def check(self, info: TensorInfo) -> None:
        """``CheckpointError`` where a tensor's storage does not have its checksum."""
        if self._is_unchecked(info.storage):
            self._hold(info, None)

    def _is_unchecked(self, storage: Storage) -> bool:
        return storage.crc is not None and storage not in self._checked

    def _hold(self, info: TensorInfo, crc: int | None) -> None:
        """Holds the CRC-32 of a tensor's storage, which is read for it where that is None, against
        what the file says."""
        source, storage = self.sources[info.file], info.storage
        if crc is None:
            crc = source.crc32(storage.offset, storage.nbytes)
        if crc != storage.crc:
            raise damaged(source, f"tensor {show(info.name, 80)}")
        self._checked.add(storage)

    def close(self) -> None:
        """Close the files; the descriptions stay."""
        for source in self.sources.values():
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _is_all(info: TensorInfo) -> bool:
    """Whether a tensor spans its whole storage."""
    return (info.offset, info.span) == (info.storage.offset, info.storage.nbytes)


def open_archive(path: Path) -> Archive:
    """Open a safetensors or torch file, or the weights of a Hugging Face folder.

    The file's content decides what it is, not its suffix; a ``*.index.json`` opens the shards that
    it lists, ``builtin:shapes_tiny`` names the file that is shipped, ``hf:OWNER/NAME`` a
    repository of the hub. Raises ``CheckpointError``
    for anything else, naming what the file seems to be.
    """
    path = weights_file(located(Path(path)))
    return _open_shards(path) if is_index(path) else _open_file(path)


def _open_file(path: Path) -> Archive:
    source = FileSource(path)
    try:
        head = source.read(0, min(HEAD, source.size))
        file_format = None if path.suffix == DISTRIBUTED else format_of(head)
        if file_format is None:
            raise CheckpointError(
                f"{path} is neither a safetensors nor a torch checkpoint: "
                f"it seems to be {looks_like(head, path.name)}"
            )
        with _no_collection():
            if file_format == "numpy-pickle":
                return Archive(path, [source], *read_numpy_pickle(source))
            return Archive(path, [source], file_format, *_READERS[file_format](source))
    except BaseException:
        source.close()
        raise


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles: as descriptions of tensors pile up, it looks through all
    of them again and again, which takes as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _open_shards(path: Path) -> Archive:
    """The tensors in the index's order, each from the shard that the index names."""
    index = read_index(path)
    if path.is_symlink() and not any(shard.exists() for shard in index.shards):
        index = read_index(path := path.resolve())  # whose shards lie beside what it points to
    shards: dict[Path, Archive] = {}
    try:
        for shard in index.shards:
            if not shard.exists():
                raise CheckpointError(
                    f"{path} lists {shard.name}, which is not beside it; expected all "
                    f"{len(index.shards)} shards (is the download complete?)"
                )
            shards[shard] = _open_file(shard)
            if shards[shard].format == "paddle":
                raise CheckpointError(f"{path} lists {shard.name}, which is of Paddle: name that")
        tensors = index.located({shard: opened.tensors for shard, opened in shards.items()})
        sources = [source for opened in shards.values() for source in opened.sources.values()]
        return Archive(path, sources, "sharded", tensors, index.metadata)
    except BaseException:
        for opened in shards.values():
            opened.close()
        raise


def weights_file(path: Path) -> Path:
    """``path`` itself, or the weights file (or index) of the Hugging Face folder ``path``."""
    try:
        if not path.is_dir():
            return path
        names = {
            entry.name for entry in path.iterdir() if entry.is_file() and not is_hidden(entry.name)
        }
    except OSError as error:
        raise CheckpointError(f"cannot open {path}: {error.strerror}") from None
    indexes = sorted(name for name in names if is_index(Path(name)))
    for name in (*WEIGHT_FILES, *indexes):
        if name in names:
            return path / name
    raise CheckpointError(
        f"{path} is a folder without {' and '.join(WEIGHT_FILES[::2])} (or their index); "
        f"{folder_words(path, names)}"
    )
