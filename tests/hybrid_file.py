"""A checkpoint of a hybrid detector, as training leaves it or with other weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from detector.checkpoint import save_tensors, weights_metadata
from detector.network.model import HybridDetector


def save_hybrid(path: Path, model: HybridDetector, classes: Sequence[str]) -> None:
    metadata = weights_metadata(model.config.to_json(), classes)
    save_tensors(path, model.state_dict(), metadata)


@contextmanager
def reweighted(source: Path, path: Path) -> Iterator[dict[str, Tensor]]:
    """The tensors of a safetensors file, to change; saved to ``path`` with its metadata."""
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    yield tensors
    save_file(tensors, path, metadata)
