"""Which edits the rules for units, components and layers make."""

from dataclasses import dataclass

import pytest

from ablate_kit.ablations.ablation import Blocks, Edit, Random
from ablate_kit.ablations.layers import layers
from ablate_kit.ablations.units import units
from ablate_kit.ablations.zeros import component
from ablate_kit.errors import UserError


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    dtype: str = "float32"


MODEL = {
    f"decoder.layers.{i}.{name}": Tensor(shape)
    for i in range(3)
    for name, shape in {
        "self_attn.in_proj_weight": (24, 8),
        "self_attn.out_proj.weight": (8, 8),
        "ffn.weight": (8, 8),
        "ffn.bias": (8,),
    }.items()
} | {"head.weight": Tensor((4, 8))}


def test_units_are_a_share_of_each_tensor_for_every_repeat() -> None:
    made = units({"a": (10, 10), "b": (3,)}, [7, 50], repeats=2, seed=5, label="some")
    assert [one.name for one in made] == [
        "some-7pct-r0", "some-7pct-r1", "some-50pct-r0", "some-50pct-r1",
    ]  # fmt: skip
    # 7 % of three elements is none of them.
    assert made[0].edits == (Edit("a", Random(7, 5, 0)),)
    assert made[3].edits == (Edit("a", Random(50, 5, 1)), Edit("b", Random(1, 5, 1)))


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percentages_outside_of_0_to_100_are_refused(percent: float) -> None:
    with pytest.raises(UserError, match="expected more than 0 and at most 100"):
        units({"a": (10,)}, [percent])


def test_a_share_of_less_than_one_unit_is_refused() -> None:
    with pytest.raises(UserError, match=r"5 % of 10 elements \(a\) is less than one unit"):
        units({"a": (10,)}, [5])


def test_a_component_is_every_element_of_its_tensors() -> None:
    assert component(["a", "b"], "both").edits == (Edit("a"), Edit("b"))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("progressive", [[0], [0, 1], [0, 1, 2]]),
        ("each", [[0], [1], [2]]),
        ("backward", [[2], [1, 2], [0, 1, 2]]),
    ],
)
def test_layers_go_in_sets(mode: str, expected: list[list[int]]) -> None:
    made = layers(MODEL, "decoder.layers", "ffn", mode, "x")  # type: ignore[arg-type]
    for one, chosen in zip(made, expected, strict=True):
        names = {edit.tensor for edit in one.edits}
        assert names == {
            f"decoder.layers.{i}.ffn.{kind}" for i in chosen for kind in ("weight", "bias")
        }
    assert made[-1].name.startswith("decoder.layers.")
    assert len({one.name for one in made}) == 3


@pytest.mark.parametrize(
    ("base", "part", "message"),
    [
        ("decoder.layer", "ffn", 'no layers under "decoder.layer" in x; did you mean'),
        ("nothing", "ffn", "it has decoder.layers"),
        ("decoder.layers", "fnn", 'have no part "fnn"; did you mean "ffn"'),
        ("decoder.layers", "zzz", "they have self_attn, ffn"),
    ],
)
def test_wrong_bases_and_parts_say_what_there_is(base: str, part: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        layers(MODEL, base, part, "each", "x")
    assert message in str(error.value)


def test_sampling_without_projection_is_moved_off_the_map() -> None:
    """Zero offsets would sample at the reference; and what scales offsets must stay."""
    part = "layers.0.encoder_attn"
    model = {
        f"{part}.sampling_offsets.weight": Tensor((96, 64)),
        f"{part}.sampling_offsets.bias": Tensor((96,)),
        f"{part}.attention_weights.weight": Tensor((48, 64)),
        f"{part}.num_points_scale": Tensor((6,)),
        f"{part}.norm.weight": Tensor((64,)),
    }
    (one,) = layers(model, "layers", "encoder_attn", "each", "x")
    assert one.edits == (
        Edit(f"{part}.sampling_offsets.weight", Blocks(0, ((0, 96),))),
        Edit(f"{part}.sampling_offsets.bias", Blocks(0, ((0, 96),)), 1e8),
    )
