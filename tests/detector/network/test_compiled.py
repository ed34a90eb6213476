"""Compiled parts compute the same under the same names."""

import pytest
import torch
from torch import nn

from detector.config import preset
from detector.network.compiled import compile_parts
from detector.network.model import HybridDetector


def test_compiled_parts_compute_the_same_and_keep_their_names() -> None:
    torch.compiler.reset()
    config = preset("tiny").replace(image_size=64, widths=[16, 32, 16, 16], d_model=32, queries=5)
    plain, compiled = HybridDetector(config).eval(), HybridDetector(config).eval()
    compile_parts(compiled, backend="eager")  # traces like any other, but makes no kernels
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(image)["logits"], plain(image)["logits"])
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["ok"] > 0


@pytest.mark.parametrize("one_size", [True, False])
def test_input_sizes_that_vary_share_their_kernels(
    one_size: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One kernel per size would be made for few of them, after which torch gives up."""
    asked: list[bool] = []
    monkeypatch.setattr(nn.Module, "compile", lambda *_, dynamic, backend: asked.append(dynamic))
    compile_parts(HybridDetector(preset("tiny")), one_size=one_size)
    assert set(asked) == {not one_size}
