"""The baseline computes what the thesis' model computes, map by map."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detector.config import preset
from detector.network import legacy
from detector.network.model import HybridDetector


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every tensor of the notebooks' model, filled by a formula of its rank among the names."""
    filled = {}
    for j, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        count = math.prod(shape)
        values = torch.sin(0.7 * j + 1.3 * torch.arange(count, dtype=torch.float64)).reshape(shape)
        if len(shape) >= 2:
            filled[name] = values / math.sqrt(count / shape[0])
        elif len(shape) == 1 and name.endswith(".weight"):
            filled[name] = 0.5 + 0.1 * values
        else:
            filled[name] = 0.1 * values
    return filled


@pytest.fixture(scope="module")
def maps() -> dict[str, Tensor]:
    """The maps of the thesis' model, of weights that came in under the notebooks' names."""
    model = HybridDetector(preset("thesis")).double().eval()
    theirs = legacy.to_legacy(model.state_dict(), model.config)
    shapes = {theirs[name]: tuple(value.shape) for name, value in model.state_dict().items()}
    ours = legacy.to_ours(shapes, legacy.infer_config(shapes))
    model.load_state_dict({ours[name]: value for name, value in weights(shapes).items()})

    seen: dict[str, Tensor] = {}
    backbone = model.backbone
    watched = {
        "stem": backbone.stem,
        "stage0": backbone.stage0[-1],
        "stage1": backbone.stage1[-1],
        "csi": backbone.csi,
        "pgi2": backbone.pgi2,
        "stage2[0]": backbone.stage2[0],
        "memory": model.encoder,
    }
    for name, module in watched.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    backbone.register_forward_hook(
        lambda _, __, out: seen.update(zip(("p3", "p4", "p5", "p6"), out[0], strict=True))
    )
    model.neck.register_forward_hook(
        lambda _, __, out: seen.update({"neck p3": out[0], "neck p6": out[3]})
    )
    image = torch.sin(0.011 * torch.arange(2 * 3 * 128 * 96, dtype=torch.float64))
    with torch.no_grad():
        out = model(image.reshape(2, 3, 128, 96))
    # The thesis repeats every reference point for its four levels.
    references = out["references"][:, :, None].expand(-1, -1, 4, -1)
    return seen | {"logits": out["logits"], "boxes": out["boxes"], "references": references}


def test_every_map_has_the_sums_of_the_thesis_model(
    repository: Path, maps: dict[str, Tensor]
) -> None:
    golden = json.loads((repository / "tests/golden/baseline_parity.json").read_text())["sums"]
    assert maps.keys() == golden.keys()
    for name, (total, absolute) in golden.items():
        assert maps[name].sum().item() == pytest.approx(total, rel=1e-8), name
        assert maps[name].abs().sum().item() == pytest.approx(absolute, rel=1e-8), name
