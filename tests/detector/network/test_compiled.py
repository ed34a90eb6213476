"""Compiled parts compute the same under the same names."""

import torch

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
