"""Checkpoint files to open: real tensors of every kind, and files no library would write."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ablate_kit.crafted_pickles import Pickler


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a file as torch.save does."""

    def write(tree: Any) -> Path:
        torch.save(tree, tmp_path / "file.pth")
        return tmp_path / "file.pth"

    return write


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Writes a zip archive of records as torch.save lays them out, with any pickle."""

    def write(
        tree: Any, storages: Mapping[str, bytes] | None = None, protocol: int = 2, **extra: bytes
    ) -> Path:
        buffer = io.BytesIO()
        if isinstance(tree, bytes):
            buffer.write(tree)
        else:
            Pickler(buffer, protocol).dump(tree)
        path = tmp_path / "crafted.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("crafted/data.pkl", buffer.getvalue())
            for key, data in (storages or {}).items():
                archive.writestr(f"crafted/data/{key}", data)
            for name, data in extra.items():
                archive.writestr(f"crafted/{name}", data)
        return path

    return write


def _values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(shape, generator=generator).mul(50).to(dtype)


def _corpus() -> dict[str, Any]:
    base = _values(6, 8)
    return {
        "float32": _values(3, 4),
        "float64": _values(3, 4, dtype=torch.float64),
        "float16": _values(3, 4, dtype=torch.float16),
        "bfloat16": _values(3, 4, dtype=torch.bfloat16),
        "float8_e4m3fn": _values(5, dtype=torch.float8_e4m3fn),
        "float8_e4m3fnuz": _values(5, dtype=torch.float8_e4m3fnuz),
        "float8_e5m2": _values(5, dtype=torch.float8_e5m2),
        "float8_e5m2fnuz": _values(5, dtype=torch.float8_e5m2fnuz),
        "float8_e8m0fnu": _values(5).abs().to(torch.float8_e8m0fnu),
        "integers": {
            f"{sign}int{bits}": torch.arange(7).to(getattr(torch, f"{sign}int{bits}"))
            for sign in ("", "u")
            for bits in (8, 16, 32, 64)
        },
        "bool": _values(9) > 0,
        "complex": {
            "64": torch.complex(_values(3), -_values(3)),
            "128": torch.complex(_values(3).double(), -_values(3).double()),
        },
        "scalar": torch.tensor(3.25),
        "empty": torch.empty(0, 3),
        "empty of a larger storage": base[:0],
        "one": torch.ones(1, 1, 1),
        "transposed": base.t(),
        "permuted": _values(2, 3, 4, 5).permute(3, 1, 0, 2),
        "channels_last": _values(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "sliced": base[1:5, 2:7:2],
        "column": base[:, 3],
        "expanded": torch.arange(3.0)[:, None].expand(3, 4),
        "windows": torch.arange(10.0).unfold(0, 4, 1),
        "tied": [base, base, base.view(48)],
        "parameter": torch.nn.Parameter(_values(2, 2)),
        "frozen parameter": torch.nn.Parameter(_values(2, 2), requires_grad=False),
        "nested": {"deeper": {"weight": _values(2), 5: _values(3)}, "pair": (_values(1), 7)},
        "module.wrapped.weight": _values(4),
        "not tensors": {"epoch": 3, "name": "toy", "nothing": None, "list": [1, 2.5, True]},
    }


@pytest.fixture(scope="session")
def corpus() -> dict[str, Any]:
    """A tree with tensors of every kind whose bytes are their values."""
    with_attribute = _values(2)
    with_attribute.note = "kept beside the tensor"
    return {**_corpus(), "attribute": with_attribute}


@pytest.fixture
def saved(tmp_path: Path, corpus: dict[str, Any]) -> Path:
    """The corpus as torch.save writes it."""
    path = tmp_path / "corpus.pth"
    torch.save(corpus, path)
    return path
