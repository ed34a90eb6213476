"""Detectors with fewer decoder layers and queries, as files that can be made again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.shrinking.configured import Fewer
from ablate_kit.shrinking.equality import images_of
from ablate_kit.shrinking.smaller_checkpoint import recreate, shrink, verify_smaller
from tests.ablate_kit.small_sweeps import with_knobs

from .conftest import outputs

Folders = Callable[[str], Path]


@pytest.mark.parametrize("name", ["hybrid", "rt_detr_v2", "lw_detr", "rf_detr"])
def test_the_file_computes_what_an_early_exit_does(
    name: str, folders: Folders, hybrid: Path, tmp_path: Path
) -> None:
    original = hybrid if name == "hybrid" else folders(name)
    written, again = (tmp_path / f"{one}{original.suffix}" for one in ("smaller", "again"))
    adapter, knobs = with_knobs(original)
    expected = outputs(knobs.configured("depth", 1))
    with open_checkpoint(original) as opened:
        done = shrink(opened, Fewer(depth=1), written, adapter=adapter)
    assert done.settings["decoder_layers"] == 1
    with open_checkpoint(written) as opened:
        found = outputs(open_adapter(opened))
        receipt = receipt_of(opened)
        assert not any("decoder.layers.1." in one for one in opened.tensors)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert receipt is not None
    with open_checkpoint(original) as opened:
        recreate(opened, receipt, again)
    assert verify_smaller(receipt, original).passed
    first, second = (
        one if one.is_file() else one / "model.safetensors" for one in (written, again)
    )
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["yolos", "lw_detr", "rf_detr"])
def test_a_folder_with_fewer_queries_loads_in_the_library(
    name: str, folders: Folders, tmp_path: Path
) -> None:
    from transformers import AutoModelForObjectDetection

    adapter, knobs = with_knobs(folders(name))
    with open_checkpoint(folders(name)) as opened:
        shrink(opened, Fewer(queries=4), tmp_path / "fewer", adapter=adapter)
    expected = outputs(knobs.configured("queries", 4))
    model, report = AutoModelForObjectDetection.from_pretrained(
        tmp_path / "fewer", output_loading_info=True
    )
    assert not any(report.values())
    images = adapter.prepare(images_of(None)[0]).inputs["pixel_values"]
    with torch.no_grad():
        found = model.eval()(pixel_values=images)
    torch.testing.assert_close(found.logits, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found.pred_boxes, expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rt_detr_v2", "d_fine"])
def test_tensors_that_modules_share_stay_shared(
    name: str, folders: Folders, tmp_path: Path
) -> None:
    """A smaller detector is not larger, in memory or as a file."""
    with open_checkpoint(folders(name)) as opened:
        before = open_adapter(opened).module
        tensors = len(opened.tensors)
        shrink(opened, Fewer(queries=4), tmp_path / "fewer")
    with open_checkpoint(tmp_path / "fewer") as opened:
        assert len(opened.tensors) == tensors
        after = open_adapter(opened).module
    counts = [sum(one.numel() for one in module.parameters()) for module in (before, after)]
    assert counts[1] <= counts[0]


def test_layers_and_queries_at_once(hybrid: Path, tmp_path: Path) -> None:
    with open_checkpoint(hybrid) as opened:
        done = shrink(opened, Fewer(2, 5), tmp_path / "x.safetensors")
    assert [str(one) for one in done.structures] == ["1 of 3 decoder layers", "7 of 12 queries"]
    assert done.settings["queries"] == 5


@pytest.mark.parametrize(
    ("depth", "queries", "message"),
    [
        (3, None, "depth is 3; the detector has 3, expected fewer"),
        (None, 100, "queries is 100; the detector has 12, expected fewer"),
    ],
)
def test_more_than_there_are_is_refused(
    depth: int | None, queries: int | None, message: str, hybrid: Path, tmp_path: Path
) -> None:
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match=message):
        shrink(opened, Fewer(depth, queries), tmp_path / "x.safetensors")


def test_what_cannot_be_opened_is_not_called_wrong(
    hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder that runs its own code, which nobody has said to be trusted."""
    with open_checkpoint(hybrid) as opened:
        shrink(opened, Fewer(queries=5), tmp_path / "x.safetensors")
    with open_checkpoint(tmp_path / "x.safetensors") as opened:
        receipt = receipt_of(opened)
    assert receipt is not None

    def untrusted(*_: object) -> None:
        raise UserError("it runs its own code")

    monkeypatch.setattr("ablate_kit.shrinking.smaller_checkpoint.open_adapter", untrusted)
    check = verify_smaller(receipt)
    assert (check.passed, check.detail) == (None, "not made again: it runs its own code")
