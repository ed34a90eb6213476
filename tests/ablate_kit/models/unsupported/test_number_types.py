"""Files whose numbers are no weights: quantized, or complex."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.rewriting.grafted import grafted
from tests.ablate_kit.models.bridge import test_official_files
from tests.ablate_kit.models.bridge.official_files import refused
from tests.ablate_kit.small_sweeps import adapter_of
from tests.hybrid_file import reweighted

REFUSED = [
    (torch.complex64, r"{} is of complex numbers \(complex64\)"),
    (torch.int8, "{} is quantized, in int8"),
]


@pytest.mark.parametrize(("dtype", "message"), REFUSED)
def test_such_a_file_is_not_converted(tmp_path: Path, dtype: torch.dtype, message: str) -> None:
    pytest.importorskip("transformers")
    name = "transformer.encoder.layers.0.linear1.weight"

    def change(content: dict[str, dict[str, torch.Tensor]]) -> None:
        content["model"][name] = content["model"][name].to(dtype)

    test_official_files.write(tmp_path / "official.pth", "detr", change)
    refused(tmp_path / "official.pth", message.format(name))


def changed(folder: Path, place: Path, name: str, dtype: torch.dtype) -> Path:
    """A copy of the folder with a tensor of this type."""
    place.mkdir()
    for one in folder.iterdir():
        (place / one.name).write_bytes(one.read_bytes())
    weights = place / "model.safetensors"
    with reweighted(weights, weights) as tensors:
        tensors[name] = tensors[name].to(dtype)
    return place


@pytest.mark.parametrize(("dtype", "message"), REFUSED)
def test_such_a_folder_is_not_opened(
    folders: Callable[[str], Path], tmp_path: Path, dtype: torch.dtype, message: str
) -> None:
    """Though its tensors have other names in the model."""
    name = "model.encoder.layers.0.self_attn.out_proj.weight"
    folder = changed(folders("detr"), tmp_path / "model", name, dtype)
    with pytest.raises(UserError, match=message.format(name)):
        adapter_of(folder)


@pytest.mark.parametrize(("dtype", "message"), REFUSED)
def test_such_a_hybrid_is_neither_opened_nor_a_source_of_parts(
    hybrid: Path, tmp_path: Path, dtype: torch.dtype, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    with reweighted(hybrid, path) as tensors:
        name = next(one for one in tensors if one.startswith("decoder") and tensors[one].ndim == 2)
        tensors[name] = tensors[name].to(dtype)
    with pytest.raises(UserError, match=message.format(name)):
        adapter_of(path)
    with open_checkpoint(hybrid) as own, open_checkpoint(path) as other:
        with pytest.raises(UserError, match=message.format(name)) as refused:
            grafted(own, other, ["decoder"], [], skip_mismatched=False)
        assert "--model" not in str(refused.value)  # graft has no such option
        grafted(own, other, ["backbone"], [], skip_mismatched=False)
