"""Detectors of torchvision and LibreYOLO, with random weights, against what these give."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.errors import UserError
from ablate_kit.models.inference.detect import detect
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.variants.variant import Variant
from tests.ablate_kit.small_sweeps import adapter_of

from .zoo_models import SSD, image, saved, ssd


@pytest.fixture
def yolox(tmp_path: Path) -> tuple[Any, Path]:
    from libreyolo import LibreYOLOX

    with redirect_stdout(StringIO()), torch.random.fork_rng():
        torch.manual_seed(0)
        made = LibreYOLOX(None, size="n", device="cpu", _scratch_init=True)
    made.model.eval()
    return made, saved(made.model, tmp_path)


def test_libreyolo_detects_what_libreyolo_detects(yolox: tuple[Any, Path]) -> None:
    made, path = yolox
    adapter = adapter_of(path, "libreyolo")
    (found,) = detect(adapter, [image()])
    own = made.predict(Image.fromarray(image()), conf=0.001, iou=0.6, max_det=100)
    boxes = own.boxes.xyxy.cpu().numpy()
    assert len(found.scores) == len(boxes) > 0
    order = np.argsort(-own.boxes.conf.cpu().numpy(), kind="stable")
    np.testing.assert_allclose(found.boxes, boxes[order], atol=1e-3)
    with pytest.raises(UserError, match='no family "yoloxx"; did you mean "yolox"'):
        adapter_of(path, "libreyolo:yoloxx")
    with pytest.raises(UserError, match='the size is "huge"; expected --model libreyolo:yolox:S'):
        adapter_of(path, "libreyolo:yolox:huge")


def test_what_libreyolo_has_written_needs_no_word(yolox: tuple[Any, Path], tmp_path: Path) -> None:
    from libreyolo.utils.serialization import wrap_libreyolo_checkpoint

    made, path = yolox
    names = {number: f"thing {number}" for number in range(80)}
    written = wrap_libreyolo_checkpoint(
        made.model.state_dict(), model_family="yolox", size="n", task="detect", nc=80, names=names
    )
    torch.save(written, tmp_path / "written.pt")
    adapter = adapter_of(tmp_path / "written.pt")
    assert adapter.classes[:2] == ("thing 0", "thing 1")
    (one,), (other,) = detect(adapter, [image()]), detect(adapter_of(path, "libreyolo"), [image()])
    np.testing.assert_array_equal(one.boxes, other.boxes)


def test_models_that_differ_in_weights_alone_are_the_same(
    yolox: tuple[Any, Path], tmp_path: Path
) -> None:
    """So that one can be the other's donor, and variants of it share its passes."""
    made, path = yolox
    one = adapter_of(path, "libreyolo")
    with torch.no_grad():
        next(made.model.parameters()).add_(1)
    other = adapter_of(saved(made.model, tmp_path), "libreyolo")
    assert one.same_model(other)
    assert adapter_of(saved(ssd(), tmp_path), SSD).same_model(
        adapter_of(saved(ssd(), tmp_path), SSD)
    )
    assert not adapter_of(saved(ssd(5), tmp_path), SSD).same_model(other)


@pytest.mark.parametrize("model", ["torchvision", "libreyolo"])
def test_replay_gives_what_full_passes_give(
    model: str, yolox: tuple[Any, Path], tmp_path: Path
) -> None:
    adapter = adapter_of(yolox[1], "libreyolo") if model == "libreyolo" else adapter_of(
        saved(ssd(), tmp_path), SSD
    )  # fmt: skip
    names = [
        name for name in adapter.live_names() if name.endswith("conv.weight") or ".0.0.w" in name
    ]
    cuts = [Variant.of(Ablation(n, "component", (Edit(n),))) for n in names[:: len(names) // 4]]
    rows: dict[bool, Any] = {}
    for replay in (True, False):
        with VariantExecutor(adapter, replay=replay) as executor:
            rows[replay] = executor.run([adapter.prepare(image())], cuts)
    assert len(cuts) >= 4
    for one, other in zip(rows[True], rows[False], strict=True):
        np.testing.assert_array_equal(one[0].boxes, other[0].boxes)
        np.testing.assert_array_equal(one[0].scores, other[0].scores)


def test_two_implementations_of_one_model_agree(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = adapter_of(shared / "models/deimv2_atto_upstream.pth", "libreyolo")
    other = adapter_of(shared / "models/deimv2_atto", trust_remote_code=True)
    photographs = sorted((shared / "data/coco/val2017").glob("*.jpg"))[:3]
    for path in photographs:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        (one,), (two,) = detect(own, [pixels]), detect(other, [pixels])
        sure = one.scores > 0.3
        np.testing.assert_allclose(one.scores[sure], two.scores[: sure.sum()], atol=1e-4)
        np.testing.assert_allclose(one.boxes[sure], two.boxes[: sure.sum()], atol=0.02)
        assert [own.classes[i] for i in one.labels[sure]] == [
            other.classes[i] for i in two.labels[: sure.sum()]
        ]
