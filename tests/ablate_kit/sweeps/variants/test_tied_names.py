"""Cuts of what a model ties, in a file that holds it as copies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

import ablate_kit as ak
from tests.ablate_kit.conftest import Ablate


@pytest.fixture
def twins(folders: Callable[[str], Path], tmp_path: Path) -> Path:
    """RT-DETRv2, whose heads the decoder shares, with all names as tensors of their own."""
    folder = tmp_path / "twins"
    shutil.copytree(folders("rt_detr_v2"), folder)
    state = ak.load(folder).module.state_dict()
    save_file(
        {k: v.clone() for k, v in state.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def test_a_sweep_tells_what_else_its_cuts_cut(ablate: Ablate, twins: Path, tmp_path: Path) -> None:
    one, other = "model.decoder.class_embed.1", "class_embed.1"
    told = f"in the model 2 tensors that are cut are tied to others, such as {one}.bias to {other}"
    words = ("sweep", twins, "--shapes", "--limit", 2, "--modules")
    assert told in ablate(*words, one, "-o", tmp_path / "one").err
    assert told in (tmp_path / "one/report/report.html").read_text()

    model = ak.load(twins)
    (cut,) = model.modules(one)
    result = ak.sweep(model, ak.shapes(limit=2), [cut], resamples=0)
    assert any(told in note for note in result.notes)
    both = model.ablations("component", pattern=[f"{one}.*", f"{other}.*"])
    result = ak.sweep(model, ak.shapes(limit=2), both, resamples=0)
    assert not any("tied" in note for note in result.notes)


def test_what_the_file_holds_once_is_no_news(folders: Callable[[str], Path]) -> None:
    model = ak.load(folders("rt_detr_v2"))
    result = ak.sweep(
        model, ak.shapes(limit=2), model.modules("model.decoder.layers.0"), resamples=0
    )
    assert not any("tied" in note for note in result.notes)
