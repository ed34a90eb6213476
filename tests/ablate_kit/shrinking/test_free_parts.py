"""Of what a run found free, what a smaller model can be without."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import of_members
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.shrinking.free_parts import FreeParts, free_parts
from ablate_kit.shrinking.free_variants import FreeVariants
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings

from .conftest import at_means, cut, whole

pytest.importorskip("transformers")
ATTENTION = "model.decoder.layers.0.self_attn"
MEAN = Ablation("some-mean", "channels-mean", (Edit("model.decoder.layernorm.weight", value=0.5),))


def parts(folder: Path, *ablations: Ablation) -> FreeParts:
    free = FreeVariants(ablations, len(ablations), EvaluationSettings())
    with open_checkpoint(folder) as opened:
        return free_parts(opened, open_adapter(opened), free, Path("runs/study"))


def test_of_a_free_branch_all_that_can_be_is_taken_out(folders: Callable[[str], Path]) -> None:
    """A folder keeps one head of it, as zeros: that is no reason to keep all of them."""
    folder = folders("detr")
    branch = replace(cut(whole(folder, f"{ATTENTION}.out_proj")), kind="skip", name="branch")
    found = parts(folder, MEAN, branch)
    assert [one.name for one in found.taken] == ["branch"]
    assert "other values, not zero: a smaller model cannot be" in found.kept["some-mean"]


def test_heads_at_their_means_go_with_others_of_their_module(
    folders: Callable[[str], Path],
) -> None:
    folder = folders("detr")
    alone = at_means(folder, ATTENTION, [0, 2])
    factors = of_members([one.name for one in alone])
    # At once they are a cut of the run, too, which does not say what each head adds.
    both = replace(alone[1], name="both", kind="joined", factors=factors)
    found = parts(folder, both, *alone)
    assert [one.name for one in found.taken] == [one.name for one in alone]
    assert not found.kept
    (bias,) = [edit for edit in found.ablation.edits if edit.values]
    with open_checkpoint(folder) as opened:
        held = opened.read(bias.tensor)
    assert torch.allclose(torch.tensor(bias.values), held + 0.4)


def test_a_cut_of_several_goes_where_its_members_alone_do_not(hybrid: Path) -> None:
    """A block adds nothing without weight and bias of its norm."""
    names = [f"backbone.stage2.0.norm.{one}" for one in ("weight", "bias")]
    alone = [replace(cut([Edit(name)]), name=name) for name in names]
    both = replace(cut(map(Edit, names)), factors=of_members(names))
    found = parts(hybrid, *alone, both)
    assert [one.name for one in found.taken] == ["cut"]
    assert set(found.kept) == set(names)


def test_what_stands_in_the_way_is_told_of_more_than_means(folders: Callable[[str], Path]) -> None:
    folder = folders("detr")
    norm = whole(folder, "model.decoder.layernorm.bias")
    with pytest.raises(UserError, match="runs/study found free can be taken out; norm: it zeroes"):
        parts(folder, MEAN, replace(cut(norm), kind="component", name="norm"))


def test_what_cannot_be_built_smaller_is_said_before_what_could_go(
    folders: Callable[[str], Path],
) -> None:
    free = FreeVariants((cut([]),), 1, EvaluationSettings())
    message = "framework whose models cannot be built smaller here"
    with open_checkpoint(folders("detr")) as opened, pytest.raises(UserError, match=message):
        free_parts(opened, cast("Adapter", object()), free, Path("runs/study"))
