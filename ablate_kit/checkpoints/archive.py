"""An archive is a file of named tensors, open for reading."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ablate_kit.errors import did_you_mean

from .errors import CheckpointError
from .opaque import show
from .safetensors_file import read_safetensors
from .sniff import HEAD, Format, format_of, looks_like
from .source import Source
from .tensors import TensorInfo
from .torch_zip import read_torch_zip

if TYPE_CHECKING:
    import torch

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class Archive:
    """Named tensors of a file, described without reading them and without importing torch.

    ``tensors`` are in file order. ``metadata`` is the ``__metadata__`` of a safetensors file; of a
    torch file it is the pickled dictionary as plain data, each tensor a ``TensorView`` and each
    object that is neither an ``Opaque`` (a pickle of something else than a dictionary is found
    under the key ``""``). Reading from several threads at once is safe.
    """

    def __init__(
        self,
        source: Source,
        file_format: Format,
        tensors: list[TensorInfo],
        metadata: Mapping[Any, Any],
    ) -> None:
        by_name = {tensor.name: tensor for tensor in tensors}
        if len(by_name) != len(tensors):
            twice = next(tensor.name for tensor in tensors if by_name[tensor.name] is not tensor)
            raise CheckpointError(f"{source.path} has two tensors named {show(twice, 80)}")
        self.path = source.path
        self.format: Format = file_format
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(by_name)
        self.metadata: Mapping[Any, Any] = metadata
        self.source = source

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
        self.source.read_into(info.offset, buffer.numpy().data)
        elements = buffer.view(getattr(torch, info.dtype))
        return elements.as_strided(info.shape, info.stride)

    def close(self) -> None:
        """Close the file; the descriptions stay."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_archive(path: Path) -> Archive:
    """Open a safetensors or torch (zip) file, or the one weights file of a Hugging Face folder.

    The file's content decides what it is, not its suffix. Raises ``CheckpointError`` for anything
    else, naming what the file seems to be.
    """
    source = Source(weights_file(Path(path)))
    try:
        head = source.read(0, min(HEAD, source.size))
        match format_of(head):
            case "safetensors":
                return Archive(source, "safetensors", *read_safetensors(source))
            case "torch-zip":
                return Archive(source, "torch-zip", *read_torch_zip(source))
        raise CheckpointError(
            f"{source.path} is neither a safetensors nor a torch (zip) checkpoint: "
            f"it seems to be {looks_like(head)}"
        )
    except BaseException:
        source.close()
        raise


def weights_file(path: Path) -> Path:
    """``path`` itself, or the weights file of the Hugging Face folder ``path``."""
    try:
        if not path.is_dir():
            return path
        names = {entry.name for entry in path.iterdir() if entry.is_file()}
    except OSError as error:
        raise CheckpointError(f"cannot open {path}: {error.strerror}") from None
    for name in _WEIGHT_FILES:
        if name in names:
            return path / name
    sharded = sorted(name for name in names if name.endswith(".index.json"))
    if sharded:
        raise CheckpointError(
            f"{path} is a sharded checkpoint ({sharded[0]}); only single weight files can be opened"
        )
    raise CheckpointError(f"{path} is a folder without {' or '.join(_WEIGHT_FILES)}")
