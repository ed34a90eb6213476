"""Values decoded without torch equal torch's, and statistics equal numpy's in one go."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate_kit.checkpoints import open_archive
from ablate_kit.checkpoints.stats import stats
from ablate_kit.checkpoints.values import read_parts

FLOAT8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


def reference(tensor: torch.Tensor) -> Any:
    if tensor.is_complex():
        return tensor.to(torch.complex128).numpy().reshape(-1)
    if tensor.is_floating_point():
        return tensor.to(torch.float64).numpy().reshape(-1)
    return tensor.numpy().reshape(-1)


def values(archive: Any, name: str) -> Any:
    parts = list(read_parts(archive, archive.tensors[name]))
    return np.concatenate(parts) if parts else np.empty(0)


@pytest.mark.parametrize("dtype", FLOAT8)
def test_every_byte_of_the_8_bit_floats_is_what_torch_says(tmp_path: Path, dtype: str) -> None:
    tensor = torch.arange(256).to(torch.uint8).view(getattr(torch, dtype))
    torch.save({"a": tensor}, tmp_path / "a.pth")
    with open_archive(tmp_path / "a.pth") as archive:
        assert np.array_equal(values(archive, "a"), reference(tensor), equal_nan=True)


def test_every_bfloat16_is_what_torch_says(tmp_path: Path) -> None:
    bits = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    tensor = bits.view(torch.bfloat16)
    torch.save({"a": tensor}, tmp_path / "a.pth")
    with open_archive(tmp_path / "a.pth") as archive:
        assert np.array_equal(values(archive, "a"), reference(tensor), equal_nan=True)


def test_every_kind_of_tensor_is_what_torch_loads(saved: Path) -> None:
    with open_archive(saved) as archive:
        for name in archive.tensors:
            expected = reference(archive.read(name).contiguous())
            assert np.array_equal(values(archive, name), expected, equal_nan=True), name


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_complex_numbers(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1 + 2j, -0.5j]).to(torch.complex32)}, tmp_path / "a.pth")
    with open_archive(tmp_path / "a.pth") as archive:
        assert values(archive, "a").tolist() == [1 + 2j, -0.5j]


def test_statistics_over_several_parts_equal_those_at_once(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    array = (generator.normal(5, 2, 2_500_000)).astype(np.float32)
    array[::7] = 0
    array[5], array[6], array[2_400_000] = np.nan, np.inf, -np.inf
    torch.save({"a": torch.from_numpy(array), "t": torch.from_numpy(array).view(500, -1).t()},
               tmp_path / "a.pth")  # fmt: skip
    finite = array[np.isfinite(array)].astype(np.float64)
    with open_archive(tmp_path / "a.pth") as archive:
        for name in ("a", "t"):
            found = stats(archive, archive.tensors[name])
            assert (found.elements, found.nans, found.infinities) == (array.size, 1, 2)
            assert found.zeros == (array == 0).sum()
            assert found.mean == pytest.approx(finite.mean(), rel=1e-12)
            assert found.std == pytest.approx(finite.std(), rel=1e-12)
            assert (found.least, found.most) == (finite.min(), finite.max())


def test_statistics_of_what_has_none(saved: Path) -> None:
    with open_archive(saved) as archive:
        for name in ("empty", "complex.64"):
            found = stats(archive, archive.tensors[name])
            assert math.isnan(found.mean)
            assert math.isnan(found.std)
        assert stats(archive, archive.tensors["bool"]).mean == pytest.approx(
            float(archive.read("bool").double().mean())
        )
