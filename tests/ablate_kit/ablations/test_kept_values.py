"""What a module computes of its weights once, in evaluation, is computed anew for a cut."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations import kept_values
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import Edit, Whole
from ablate_kit.sweeps.execution.live_variant import applied_variant
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor
from ablate_kit.sweeps.variants.variant import Variant
from tests.ablate_kit.small_sweeps import adapter_of


class Gathered(nn.Module):
    """As LeViT of transformers, and others of timm, keep their attention biases."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(1.0, 4.0))
        self.norm = nn.BatchNorm1d(3)
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "Gathered":
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x + self.bias.flip(0)
        return x + self.kept.setdefault("cpu", self.bias.flip(0))


def cut() -> Ablation:
    return Ablation("cut", "component", (Edit("0.bias", Whole(), 0.0),))


@contextmanager
def by_ablation(model: nn.Module) -> Iterator[None]:
    with applied(model, cut()):
        yield


@contextmanager
def by_checkpoint(model: nn.Module) -> Iterator[None]:
    other = Variant("cut", "checkpoint", tensors={"0.bias": TakenTensor(torch.zeros(3))})
    with applied_variant(other, model, {}):
        yield


@pytest.mark.parametrize("changed", [by_ablation, by_checkpoint])
@torch.no_grad()
def test_what_is_kept_goes_with_the_weights_that_it_was_made_of(changed) -> None:  # type: ignore[no-untyped-def]
    model = nn.Sequential(Gathered()).eval()
    x = torch.ones(1, 3)
    whole = model(x)
    for _ in range(2):
        with changed(model):
            assert torch.equal(model(x), x)
        assert torch.equal(model(x), whole)
    assert not any(one.training for one in model.modules())


@torch.no_grad()
def test_modes_stay_as_they_are() -> None:
    model = nn.Sequential(Gathered()).eval()
    model[0].norm.train()
    with applied(model, cut()):
        assert [one.training for one in model.modules()] == [False, False, True]
    model.train()
    with applied(model, cut()):
        assert all(one.training for one in model.modules())


def test_models_of_transformers_keep_nothing_by_themselves(folders: Callable[[str], Path]) -> None:
    model = adapter_of(folders("detr")).module
    assert type(model).train is not nn.Module.train
    assert kept_values._keeping(model) == []
    kept = Gathered()
    model.add_module("within", kept)
    kept_values._KEEPING.clear()
    assert [one() for one in kept_values._keeping(model)] == [kept]
