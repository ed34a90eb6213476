"""Writing the detector's weights so that the file says what it holds."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
from torch import Tensor

from detector.network.model import HybridDetector


def save_weights(path: Path, model: HybridDetector, classes: Sequence[str]) -> None:
    """Weights as safetensors, with the config and the class names (JSON) in its metadata."""
    metadata = {"config": model.config.to_json(), "classes": json.dumps(list(classes))}
    save_tensors(path, model.state_dict(), metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file; the same tensors and metadata always make the same bytes."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = _in_order(safetensors.torch.save(tensors, metadata))
    # safetensors' own save_file makes files that only their owner can read.
    save_atomically(path, lambda temporary: temporary.write_bytes(content))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes it in random order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors
    return len(text).to_bytes(8, "little") + text + content[end:]


def save_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Has ``write`` make the file under a temporary name, then puts it in place.

    Whatever stops it, ``path`` is the old file or the complete new one.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
