"""Checkpoints of the thesis notebooks go into our model and back."""

import ast
from pathlib import Path

import pytest

from detector.config import preset
from detector.errors import UserError
from detector.network import legacy
from detector.network.model import HybridDetector

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def model() -> HybridDetector:
    return HybridDetector(preset("thesis"))


def read_listed(path: Path) -> Shapes:
    """Name and shape of every tensor."""
    lines = path.read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: ast.literal_eval(shape) for name, shape, *_ in rows}


@pytest.fixture(scope="module")
def listed(shared: Path) -> Shapes:
    """Of the notebooks' baseline."""
    return read_listed(shared / "spec" / "baseline_keys.txt")


@pytest.fixture(scope="module")
def gate_fuse() -> HybridDetector:
    return HybridDetector(preset("thesis").replace(**legacy.GATE_FUSE_VARIANT))


@pytest.fixture(scope="module")
def listed_gate_fuse(shared: Path) -> Shapes:
    """Of the notebooks' GateFuse variant."""
    lines = (shared / "spec" / "gate_fuse_keys.txt").read_text().splitlines()
    rows = [line.strip().split(" ", 1) for line in lines if not line.startswith("#")]
    return {name: ast.literal_eval(shape) for name, shape in rows}


@pytest.fixture(scope="module")
def denoising() -> HybridDetector:
    return HybridDetector(preset("thesis").replace(**legacy.denoising_variant()))


@pytest.fixture(scope="module")
def listed_denoising(shared: Path) -> Shapes:
    """Of the notebooks' denoising variant."""
    return read_listed(shared / "spec" / "dn_keys.txt")


def shapes_of(model: HybridDetector) -> Shapes:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def test_the_thesis_model_has_the_published_parameter_counts(model: HybridDetector) -> None:
    def count(*parts: str) -> int:
        return sum(
            p.numel() for name, p in model.named_parameters() if not parts or name.startswith(parts)
        )

    # Counted on the thesis' own model definition.
    assert count() == 43_836_340
    assert count("backbone.") == 22_388_632
    assert count("backbone.stage3.") == 20_219_961
    assert count("neck.") == 13_513_358


def test_a_file_with_exactly_the_notebooks_names_loads_strictly(
    model: HybridDetector, listed: Shapes
) -> None:
    renamed = legacy.to_ours(listed, legacy.infer_config(listed))
    assert {renamed[name]: shape for name, shape in listed.items()} == shapes_of(model)
    assert len(listed) == 512


def test_the_gate_fuse_variant_has_the_published_parameter_counts(
    gate_fuse: HybridDetector,
) -> None:
    block = gate_fuse.backbone.stage2[0]
    # Counted on the thesis' own model definition.
    assert sum(p.numel() for p in gate_fuse.parameters()) == 45_800_956
    assert sum(p.numel() for p in block.gate.parameters()) == 93_002
    assert sum(p.numel() for p in block.attention.parameters()) == 398_408
    assert sum(p.numel() for p in block.parameters()) == 601_962
    assert len(block.state_dict()) == 63


@pytest.mark.parametrize("variant", ["gate_fuse", "denoising"])
def test_a_variants_file_with_exactly_the_notebooks_names_loads_strictly(
    request: pytest.FixtureRequest, variant: str
) -> None:
    model: HybridDetector = request.getfixturevalue(variant)
    listed: Shapes = request.getfixturevalue(f"listed_{variant}")
    config = legacy.infer_config(listed)
    assert config == model.config.replace(decoder_points=config.points)
    renamed = legacy.to_ours(listed, config)
    assert {renamed[name]: shape for name, shape in listed.items()} == shapes_of(model)
    assert set(legacy.to_legacy(renamed.values(), config).values()) == set(listed)


def test_the_denoising_variant_has_the_published_parameter_counts(
    denoising: HybridDetector,
) -> None:
    # Counted on the thesis' own model definition.
    assert sum(p.numel() for p in denoising.parameters()) == 44_424_829
    assert len(denoising.state_dict()) == 538


@pytest.mark.parametrize(
    ("queries", "proposals", "peaks", "grid"),
    [(200, 124, 36, 24), (300, 210, 36, 24), (100, 24, 36, 24), (50, 0, 20, 14), (10, 0, 0, 0)],
)
def test_queries_are_chosen_in_the_notebooks_numbers(
    queries: int, proposals: int, peaks: int, grid: int
) -> None:
    made = legacy.denoising_variant(queries)
    names = ("proposal_queries", "peak_queries", "grid_queries")
    assert tuple(made[name] for name in names) == (proposals, peaks, grid)


def test_names_are_a_bijection(model: HybridDetector) -> None:
    theirs = legacy.to_legacy(shapes_of(model), model.config)
    back = legacy.to_ours(theirs.values(), model.config)
    assert {back[there]: there for there in theirs.values()} == theirs
    assert len(set(theirs.values())) == len(theirs)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_classes": 3, "queries": 50},
        {"depths": [1, 3, 2, 2], "attention_depth": 1},
        {"decoder_layers": 2, "encoder_layers": 0},
        {"norm": "bn", "layer_scale": None},
        legacy.GATE_FUSE_VARIANT,
        legacy.denoising_variant(),
        {"widths": [32, 64, 80, 96], "attention_heads": 5, "mlp_ratio": 2.0, "d_model": 40},
    ],
)
def test_the_config_is_read_off_the_shapes(changes: dict[str, object]) -> None:
    config = preset("thesis").replace(**changes)
    model = HybridDetector(config)
    names = legacy.to_legacy(shapes_of(model), config)
    shapes = {names[name]: shape for name, shape in shapes_of(model).items()}
    inferred = legacy.infer_config(shapes)
    assert inferred == config.replace(decoder_points=config.points)
    assert set(legacy.to_ours(shapes, inferred).values()) == set(shapes_of(model))


def test_a_foreign_tensor_is_named(model: HybridDetector) -> None:
    with pytest.raises(UserError, match='unexpected tensor "backbone'):
        legacy.to_ours(["backbone.st9.weight"], model.config)


def test_an_incomplete_file_is_refused() -> None:
    with pytest.raises(UserError, match=r"it has no tensor 'decoder.cls_head.weight'"):
        legacy.infer_config({"backbone.st0.0.conv3.weight": (128, 128, 3, 3)})
