"""Of what a run found free, what a smaller model can be without."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.open import open_adapter
from ablate_kit.shrinking.free_parts import FreeParts, free_parts
from ablate_kit.shrinking.variants import FreeVariants
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

from .conftest import cut, whole

pytest.importorskip("transformers")
ATTENTION = "model.decoder.layers.0.self_attn"


def parts(folder: Path, *ablations: Ablation) -> FreeParts:
    free = FreeVariants(ablations, len(ablations), EvaluationSettings())
    with open_checkpoint(folder) as opened:
        return free_parts(opened, open_adapter(opened), free, Path("runs/study"))


def test_of_a_free_branch_all_that_can_be_is_taken_out(folders: Callable[[str], Path]) -> None:
    """A folder keeps one head of it, as zeros: that is no reason to keep all of them."""
    folder = folders("detr")
    branch = replace(cut(whole(folder, f"{ATTENTION}.out_proj")), kind="skip", name="branch")
    mean = replace(cut([]), kind="heads-mean", name="some-mean")
    found = parts(folder, mean, branch)
    assert [one.name for one in found.taken] == ["branch"]
    assert found.kept["some-mean"].startswith("a mean is other values, not zero")


def test_what_stands_in_the_way_is_told_of_more_than_means(folders: Callable[[str], Path]) -> None:
    folder = folders("detr")
    mean = replace(cut([]), kind="heads-mean", name="some-mean")
    norm = whole(folder, "model.decoder.layernorm.bias")
    with pytest.raises(UserError, match="runs/study found free can be taken out; norm: it zeroes"):
        parts(folder, mean, replace(cut(norm), kind="component", name="norm"))


def test_what_cannot_be_built_smaller_is_said_before_what_could_go(
    folders: Callable[[str], Path],
) -> None:
    free = FreeVariants((cut([]),), 1, EvaluationSettings())
    message = "framework whose models cannot be built smaller here"
    with open_checkpoint(folders("detr")) as opened, pytest.raises(UserError, match=message):
        free_parts(opened, cast("Adapter", object()), free, Path("runs/study"))
