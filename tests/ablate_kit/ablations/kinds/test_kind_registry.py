"""Which edits the rules for units, components and layers make."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random
from ablate_kit.ablations.kinds.heads import RandomHeads
from ablate_kit.ablations.kinds.kind import Kind, KindContext
from ablate_kit.ablations.kinds.kind_registry import KINDS
from ablate_kit.ablations.kinds.layers import Layers
from ablate_kit.ablations.kinds.resample import HeadsResampled
from ablate_kit.ablations.kinds.retain import HeadsCumulative, HeadsRetained, UnitsRetained
from ablate_kit.ablations.kinds.scale import Noisy
from ablate_kit.ablations.kinds.units import Units
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.compat.deep_dissect.recipe_kinds import DissectHeads, DissectUnits
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


@dataclass(frozen=True)
class File:
    tensors: Mapping[str, Tensor]

    def __str__(self) -> str:
        return "x"


def made_of(kind: Kind, tensors: Mapping[str, Tensor]) -> list[Ablation]:
    checkpoint: Any = File(tensors)
    return kind.make(KindContext(checkpoint))


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
    made = made_of(Layers(base="decoder.layers", part="ffn", mode=mode), MODEL)
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
        made_of(Layers(base=base, part=part, mode="each"), MODEL)
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
    (one,) = made_of(Layers(base="layers", part="encoder_attn", mode="each"), model)
    assert one.edits == (
        Edit(f"{part}.sampling_offsets.weight", Blocks(0, ((0, 96),))),
        Edit(f"{part}.sampling_offsets.bias", Blocks(0, ((0, 96),)), 1e8),
    )


ATTENTION = "decoder.layers.*.self_attn"
IN_PROJ = "decoder.layers.{layer}.self_attn.in_proj_weight"
REPEATED = [
    RandomHeads(pattern=ATTENTION, percent=[25, 50], num_heads=8),
    HeadsRetained(pattern=ATTENTION, keep=[1, 2], num_heads=8),
    HeadsCumulative(pattern=ATTENTION, steps=3, num_heads=8),
    HeadsResampled(pattern=ATTENTION, num_heads=8),
    Units(pattern="heads", percent=[10, 20]),
    UnitsRetained(pattern="heads", percent=[10, 20]),
    Noisy(pattern="heads", percent=[5]),
    DissectUnits(tensor="heads.weight", percent=[10]),
    DissectHeads(tensor=IN_PROJ, layers="0-1", percent=[10]),
]


def test_the_repeated_rules_are_all_there() -> None:
    known = {rule for rule in KINDS.values() if "repeats" in {field.name for field in fields(rule)}}
    assert known == {type(rule) for rule in REPEATED}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    shapes = {"heads.weight": (10, 256), "some.a": (10, 10), "some.b": (3,)}
    for i in range(2):
        place = f"decoder.layers.{i}.self_attn"
        shapes |= {f"{place}.in_proj_weight": (768, 256), f"{place}.out_proj.weight": (256, 256)}
    path = tmp_path_factory.mktemp("rules") / "a.safetensors"
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)
    with open_checkpoint(path) as opened:
        yield opened


def test_units_are_a_share_of_each_tensor_for_every_repeat(checkpoint: Checkpoint) -> None:
    rule = Units(pattern="some", percent=[7, 50], repeats=2, seed=5)
    made = rule.make(KindContext(checkpoint))
    assert [one.name for one in made] == [
        "some-7pct-r0", "some-7pct-r1", "some-50pct-r0", "some-50pct-r1",
    ]  # fmt: skip
    # 7 % of three elements is none of them.
    assert made[0].edits == (Edit("some.a", Random(7, 5, 0)),)
    assert made[3].edits == (Edit("some.a", Random(50, 5, 1)), Edit("some.b", Random(1, 5, 1)))


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_percentages_outside_of_0_to_100_are_refused(
    percent: float, checkpoint: Checkpoint
) -> None:
    with pytest.raises(UserError, match="expected more than 0 and at most 100"):
        Units(pattern="some", percent=[percent]).make(KindContext(checkpoint))


def test_a_share_of_less_than_one_unit_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UserError, match=r"5 % of 3 elements \(some.b\) is less than one unit"):
        Units(pattern="some.b", percent=[5]).make(KindContext(checkpoint))


@pytest.mark.parametrize("rule", REPEATED, ids=lambda rule: rule.kind)
def test_repeats_make_as_many_times_the_variants(rule: Kind, checkpoint: Checkpoint) -> None:
    """Which is how a recipe counts its variants before it makes them."""
    source = KindContext(checkpoint)
    once = len(rule.make(source))
    assert once
    made = replace(rule, repeats=3).make(source)
    assert len(made) == 3 * once
    draws: dict[str, list[int]] = {}
    for one in made:
        label = one.factors["repeat_of"]
        assert one.name.startswith(str(label))
        draws.setdefault(str(label), []).append(int(one.factors["draw"]))
    assert list(draws.values()) == [[0, 1, 2]] * once
    assert len({tuple(one.factors.items()) for one in made}) == len(made)
