"""The baseline computes what the thesis' model computes, map by map."""

import json
import math
import re
from pathlib import Path
from typing import Any

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


def placed(values: Tensor) -> tuple[list[float], float]:
    """Values from all over a map, and a sum in which every place has another weight."""
    flat = values.flatten()
    n = torch.arange(len(flat), dtype=torch.float64)
    return flat[:: max(1, len(flat) // 13)].tolist(), (
        flat * torch.cos(0.61 * n + 0.2)
    ).sum().item()


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


@pytest.fixture(scope="module")
def golden(repository: Path) -> dict[str, Any]:
    return json.loads((repository / "tests/golden/baseline_parity.json").read_text())


def test_every_map_has_the_sums_of_the_thesis_model(
    golden: dict[str, Any], maps: dict[str, Tensor]
) -> None:
    assert maps.keys() == golden["sums"].keys()
    for name, (total, absolute) in golden["sums"].items():
        assert maps[name].sum().item() == pytest.approx(total, rel=1e-8), name
        assert maps[name].abs().sum().item() == pytest.approx(absolute, rel=1e-8), name


def test_every_map_has_its_values_in_their_places(
    golden: dict[str, Any], maps: dict[str, Tensor]
) -> None:
    """Of which sums say nothing: a transposed map has the same."""
    assert maps.keys() == golden["values"].keys()
    for name, expected in golden["values"].items():
        assert list(maps[name].shape) == expected["shape"], name
        sample, projection = placed(maps[name])
        assert sample == pytest.approx(expected["sample"], rel=1e-8, abs=1e-10), name
        precision = 1e-9 * golden["sums"][name][1]
        assert projection == pytest.approx(expected["projection"], abs=precision), name


def test_places_tell_permutations_apart(golden: dict[str, Any], maps: dict[str, Tensor]) -> None:
    for name, one in maps.items():
        expected = golden["values"][name]["projection"]
        for other in (one.flip(-1), one.roll(1, 1), one.flip(0)):
            projection = placed(other)[1]
            assert abs(projection - expected) > 1e-6 * golden["sums"][name][1], name


def test_the_sums_are_those_of_the_specification(shared: Path, golden: dict[str, Any]) -> None:
    """Which were measured on the thesis' own model, and are where the file's come from."""
    names = {
        "st0": "stage0",
        "st1": "stage1",
        "pgi_s2": "pgi2",
        "st2[0]": "stage2[0]",
        "pred_logits": "logits",
        "pred_boxes": "boxes",
        "final_ref_pts": "references",
    }
    text = (shared / "spec/gate-fuse.md").read_text().partition("\nB2 ")[2].replace("\u2212", "-")
    told = {
        names.get(row[1], row[1]): [float(row[2]), float(row[3] or row[2])]
        for row in re.finditer(r"^\| (\S[^|]*?) \| (-?[\d.]+)(?: / ([\d.]+))? \|", text, re.M)
    }
    assert told == golden["sums"]
