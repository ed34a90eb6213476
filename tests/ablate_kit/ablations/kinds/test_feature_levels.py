"""A removed pyramid level brings in nothing: its projection gives zero."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ablate_kit.ablations.kinds.feature_levels import Levels
from ablate_kit.errors import UserError

Open = Callable[[str], Any]  # see conftest.Live

LISTS = {
    "hybrid": "neck.inputs",
    "deformable_detr": "model.input_proj",
    "rt_detr_v2": "model.decoder_input_proj",
    "d_fine": "model.encoder_input_proj",
}


@pytest.mark.parametrize("kind", LISTS)
def test_the_projection_of_a_removed_level_gives_zero(live: Open, kind: str) -> None:
    one, base = live(kind), LISTS[kind]
    full = one.run()
    found = one.make(Levels(base=base))
    assert [each.name for each in found] == [f"{base}.{i}" for i in range(len(found))]
    assert len(found) == (3 if kind in ("rt_detr_v2", "d_fine") else 4)
    for ablation in found[1:]:
        level = one.module.get_submodule(ablation.name)
        with level.register_forward_hook(lambda _, __, out: torch.zeros_like(out)):
            expected = one.run()
        assert one.difference(one.run(ablation), expected) == 0
        assert one.difference(full, expected) > 1e-9
    assert one.difference(one.run(), full) == 0


def test_what_is_no_list_of_projections_is_refused(live: Open, made: Callable[..., Any]) -> None:
    one = live("d_fine")
    with pytest.raises(UserError, match=r"model\.decoder\" .* is no list of projections; it may"):
        one.make(Levels(base="model.decoder"))
    with pytest.raises(UserError, match=r'did you mean "model.encoder_input_proj"'):
        one.make(Levels(base="model.encodr_input_proj"))
    # D-FINE projects only levels whose width differs from the decoder's.
    tensors = {f"p.{level}.0.weight": torch.ones(1) for level in (1, 2)}
    with pytest.raises(UserError, match="no weights for level 0: it has them for 1, 2"):
        made(Levels(base="p", levels=[0]), tensors)
