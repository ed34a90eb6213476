"""The lines of a sweep's recipe."""

from pathlib import Path

import pytest

from ablate_kit.ablations.kinds.components import Modules
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep, parse_kind
from detector.zoo import SHAPES_TINY


def test_shapley_values_are_of_one_set_of_parts(tmp_path: Path) -> None:
    """Whose orders have numbers: of two lines, those of one number are no order."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {checkpoint: 'builtin:shapes_tiny'}\n"
        "data: {kind: shapes, limit: 2}\n"
        "ablations:\n"
        "  - {kind: heads, pattern: 'decoder.layers.*.self_attn'}\n"
        "  - {kind: shapley, members: 'decoder.layers.0.*'}\n"
        "  - {kind: shapley, members: 'decoder.layers.1.*'}\n"
    )
    message = "two lines are of kind shapley; give each set of parts a recipe of its own"
    with open_checkpoint(SHAPES_TINY) as checkpoint, pytest.raises(UserError, match=message):
        load_sweep(path).make(KindContext(checkpoint))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{kind: component, pattern: nix}", 'no tensor matches "nix"'),
        ("{kind: joined, members: [nix]}", 'no other line makes "nix"'),
        ("{kind: component, pattern: neck, null_cuts: 100000}", "with this line"),
    ],
)
def test_a_mistake_in_a_line_is_told_with_its_place(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    text = "model: {checkpoint: 'builtin:shapes_tiny'}\ndata: {kind: shapes}\nablations:\n"
    path.write_text(f"{text}  - {{kind: component, pattern: neck}}\n  - {line}\n")
    with (
        open_checkpoint(SHAPES_TINY) as checkpoint,
        pytest.raises(UserError, match=f"^{path}:5:5: {message}"),
    ):
        load_sweep(path).make(KindContext(checkpoint))


def test_pattern_is_one_or_several() -> None:
    for pattern in ("neck", ["neck", "heads"]):
        found = parse_kind({"kind": "modules", "pattern": pattern})
        assert isinstance(found, Modules)
        assert found.pattern == pattern
    with pytest.raises(UserError, match=r"ablation\.pattern: input should be a valid list"):
        parse_kind({"kind": "modules", "pattern": 3})
    with pytest.raises(
        UserError, match=r'unknown key "ablation\.patterns"; did you mean "pattern"'
    ):
        parse_kind({"kind": "modules", "patterns": ["heads"]})
