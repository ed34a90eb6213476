"""Estimates by gradients, and which ablations are evaluated for them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ablate_kit as ak
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.frameworks.wrap import wrap
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import groups
from ablate_kit.models.inference.detect import inference
from ablate_kit.models.inference.followed_scores import followed
from ablate_kit.reports.sweep_reports.screening_table import sentence, table
from ablate_kit.reports.sweep_reports.sweep_report import write_sweep_report
from ablate_kit.sweeps.recipes.screening import check_can_screen, screen
from ablate_kit.sweeps.recipes.sweep_recipe import ScreenSection, SweepRecipe
from ablate_kit.sweeps.run_folder.screened import (
    FILE,
    EstimateAgreement,
    Screened,
    agreement,
    screened,
)
from ablate_kit.sweeps.run_sweep import run
from detector.data.dataset import Annotations, Dataset, subset
from detector.training.recipes.data_sections import ShapesImages


class Colors:
    """Images of one color each, which is one object."""

    classes = ("thing",)
    category_ids = (1,)
    labelled = True

    def __init__(self, count: int = 5) -> None:
        self.colors = np.random.default_rng(0).integers(20, 250, (count, 3)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.colors)

    def image(self, index: int) -> Any:
        return np.broadcast_to(self.colors[index], (8, 8, 3)).copy()

    def stored(self, index: int) -> bytes:
        return self.colors[index].tobytes()

    def annotations(self, index: int) -> Annotations:
        return Annotations(
            image_id=index + 1,
            file_name=f"{index}.png",
            width=8,
            height=8,
            boxes=np.array([[0.0, 0, 8, 8]]),
            labels=np.zeros(1, np.int64),
            ignore=np.zeros(1, bool),
            areas=np.array([64.0]),
            ids=np.array([index + 1]),
        )


class Weighted(nn.Module):
    """The score of the whole image: a weighted mean of its color."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.3, 0.1]))
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean((2, 3)) * self.weight).sum(1)


class Normed(Weighted):
    """The same of normalized colors, by statistics that lie in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean = torch.tensor([-0.1, -0.2, -0.3])
        self.norm.running_var = torch.tensor([1.0, 2.0, 4.0])

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.norm(images))


def pixels(image: Any) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1) / 255


def boxes(scores: Tensor, sizes: Any) -> list[Any]:
    whole = torch.tensor([[0.0, 0, 8, 8]])
    return [(whole, one[None], torch.zeros(1, dtype=torch.long)) for one in scores]


def weighted(decode: Any = boxes) -> Adapter:
    return wrap(Weighted(), classes=["thing"], prepare=pixels, decode=decode)


def channels(tensor: str = "weight") -> list[Ablation]:
    return [
        Ablation(f"{tensor}{i}", "test", (Edit(tensor, Blocks(0, ((i, i + 1),))),))
        for i in range(3)
    ]


def test_of_a_linear_score_the_estimate_is_the_change() -> None:
    adapter, images = weighted(), Colors()
    ablations = [*channels(), *channels("unused")]
    found = screen(adapter, images, ablations, ScreenSection(keep=2, sample=3), 0.5)
    mean = images.colors.astype(np.float64).mean(0) / 255
    for i, weight in enumerate((0.5, 0.3, 0.1)):
        assert found.estimates[f"weight{i}"] == pytest.approx(weight * mean[i], rel=1e-5)
        assert found.estimates[f"unused{i}"] == 0
    ranked = sorted(found.estimates, key=lambda name: -found.estimates[name])
    assert found.kept == ranked[:2]
    assert len(set(found.drawn)) == 3
    assert found.images == 5  # all that there are
    # The model is as it was.
    assert all(one.requires_grad and one.grad is None for one in adapter.module.parameters())
    again = screen(adapter, images, ablations, ScreenSection(keep=2, sample=3), 0.5)
    assert again == found


class Unlabelled:
    """Images whose annotations nobody made."""

    labelled = False

    def __init__(self, images: Dataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)


def test_statistics_of_batch_normalization_are_weights_too() -> None:
    adapter = wrap(Normed(), classes=["thing"], prepare=pixels, decode=boxes)
    check_can_screen(adapter, Colors())
    ablations = channels("norm.running_mean")
    found = screen(adapter, Colors(), ablations, ScreenSection(keep=2, sample=3), 0.5)
    for i, change in enumerate((0.5 * 0.1, 0.3 * 0.2 / 2**0.5, 0.1 * 0.3 / 2)):
        assert found.estimates[f"norm.running_mean{i}"] == pytest.approx(change, rel=1e-4)
    assert not adapter.module.state_dict(keep_vars=True)["norm.running_mean"].requires_grad


def test_estimates_are_derivatives() -> None:
    """Held against the difference between heads a hundredth stronger and weaker."""
    model = ak.load("builtin:shapes_tiny")
    images, step, threshold = Unlabelled(subset(ShapesImages(limit=5).dataset(), [4])), 0.01, 0.3
    cuts = model.heads("decoder.layers.0.self_attn")
    section = ScreenSection(images=1, keep=3, sample=3, seed=7)
    found = screen(model.adapter, images, cuts, section, threshold).estimates

    def value(ablation: Ablation | None, chosen: np.ndarray) -> float:
        (group,) = groups([model.adapter.prepare(images.image(0))])
        with inference(model.adapter.module), torch.enable_grad():
            if ablation is None:
                seen = followed(model.adapter, group)
            else:
                with applied(model.adapter.module, ablation):
                    seen = followed(model.adapter, group)
        assert seen.boxes is not None
        rows = torch.from_numpy(chosen)
        signs = np.random.default_rng([7, 0]).choice([-1.0, 1.0], (len(rows), 5))
        score = (seen.scores[rows].detach().double().numpy() * signs[:, 0]).sum()
        return float(score + (seen.boxes[rows].detach().double().numpy() * signs[:, 1:]).sum())

    (one,) = groups([model.adapter.prepare(images.image(0))])
    with inference(model.adapter.module), torch.enable_grad():
        unmodified = followed(model.adapter, one)
    chosen = np.flatnonzero(unmodified.found.scores >= threshold)
    assert 2 <= len(chosen) <= 8
    for cut in cuts:
        ends = []
        for factor in (1 + step, 1 - step):
            edits = tuple(Edit(edit.tensor, edit.region, factor=factor) for edit in cut.edits)
            ends.append(value(Ablation(cut.name, "test", edits), chosen))
        assert found[cut.name] == pytest.approx(abs(ends[0] - ends[1]) / (2 * step), rel=0.03)


def hidden(scores: Tensor, sizes: Any) -> list[Any]:
    whole = torch.tensor([[0.0, 0, 8, 8]])
    return [(whole, torch.tensor([0.5]), torch.zeros(1, dtype=torch.long)) for _ in scores]


def test_scores_that_do_not_come_from_the_weights_are_refused() -> None:
    with pytest.raises(UserError, match="gives scores that do not lead back to its weights"):
        screen(weighted(hidden), Colors(), channels(), ScreenSection(), 0.5)


def test_a_model_that_cannot_be_screened_is_told_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = weighted()
    adapter.module.get_parameter("unused").requires_grad_(requires_grad=False)
    check_can_screen(adapter, Colors())
    assert {name: one.requires_grad for name, one in adapter.module.named_parameters()} == {
        "weight": True,
        "unused": False,
    }
    nothing = ImageDetections(np.ones((1, 4)), np.full(1, 0.5), np.zeros(1, np.int64))
    monkeypatch.setattr(HybridAdapter, "decode", lambda *_, **__: [nothing])
    with pytest.raises(UserError, match="gives scores that do not lead back to its weights"):
        run(SweepRecipe.model_validate(RECIPE), tmp_path / "run")
    assert not (tmp_path / "run").exists()


RECIPE: dict[str, Any] = {
    "model": {"checkpoint": "builtin:shapes_tiny"},
    "data": {"kind": "shapes", "limit": 8},
    "ablations": [
        {"kind": "heads", "pattern": "decoder.layers.*.self_attn", "null_cuts": 1},
        {"kind": "queries", "queries": [0]},
    ],
    "evaluation": {"resamples": 20},
    "screen": {"keep": 2, "sample": 2, "images": 4},
}


def test_only_what_may_matter_is_evaluated(tmp_path: Path) -> None:
    recipe = SweepRecipe.model_validate(RECIPE)
    first = run(recipe, tmp_path / "run").ledger
    known = screened(tmp_path / "run")
    assert known is not None
    assert len(known.estimates) == 12
    names = {one.name for one in first.manifest().variants}
    chosen = {*known.kept, *known.drawn}
    assert known.exact == ["query0-removed"]  # what a live model undergoes changes no weight
    assert names == {*chosen, *(f"{name}-control0" for name in chosen), "query0-removed"}
    write_sweep_report(first)
    every = [one for one in (tmp_path / "run").rglob("*") if one.name != "results.json"]  # a date
    files = {one: one.read_bytes() for one in every if one.is_file()}
    assert (tmp_path / "run" / "report" / "screen.csv") in files
    (tmp_path / "run" / "ledger.jsonl").write_bytes(b"")  # as if it had been stopped early
    again = run(recipe, tmp_path / "run").ledger
    write_sweep_report(again)
    assert {one: one.read_bytes() for one in files} == files
    others = SweepRecipe.model_validate(RECIPE | {"screen": {"keep": 3}})
    with pytest.raises(UserError, match="screen"):
        run(others, tmp_path / "run")
    (tmp_path / "run" / FILE).write_text('{"images": 0}', encoding="utf-8")
    with pytest.raises(UserError, match="does not say what was screened"):
        run(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"race": {}}, "screen and race do not go together"),
        ({"ablations": [*RECIPE["ablations"], {"kind": "pairs"}]}, "which pairs joins"),
        ({"ablations": [*RECIPE["ablations"], {"kind": "ranked"}]}, "which ranked joins"),
        (
            {"ablations": [{"kind": "queries", "queries": [0]}]},
            "none of the 1 ablations changes a weight",
        ),
        ({"ablations": [{"kind": "heads-greedy", "pattern": "**"}]}, "which heads-greedy joins"),
    ],
)
def test_what_does_not_go_with_screening_is_refused(
    extra: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        run(SweepRecipe.model_validate(RECIPE | extra), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # nothing is begun


def test_a_line_that_joins_nothing_says_which_it_is(tmp_path: Path) -> None:
    lines = [{"kind": "queries", "queries": [0]}, {"kind": "pairs"}]
    recipe = SweepRecipe.model_validate(RECIPE | {"ablations": lines, "screen": None})
    with pytest.raises(UserError, match=r"^ablations\.1: the other lines make 1 ablation to be"):
        run(recipe, tmp_path / "run")


def estimated(values: dict[str, float], kept: list[str], drawn: list[str]) -> Screened:
    return Screened(images=4, estimates=values, kept=kept, drawn=drawn, exact=[])


def test_estimates_are_compared_with_what_was_evaluated() -> None:
    values = {f"v{i}": 1.0 - 0.1 * i for i in range(8)}
    found = estimated(values, ["v0", "v1"], ["v1", "v4", "v6", "v7"])
    good = {"v0": -0.3, "v1": -0.2, "v4": -0.05, "v6": 0.0, "v7": 0.01}
    told = agreement(found, good, 0.01)
    assert (told.variants, told.others, told.missed, told.poor) == (5, 3, 1, False)
    assert told.correlation == pytest.approx(1.0)
    assert (told.left, told.may_lose) == (
        3,
        3,
    )  # draws of 3 of 6, 4 of which lose, find 1 in 1 of 5
    bad = {name: -change for name, change in good.items()}
    assert agreement(found, bad, 0.01).correlation == pytest.approx(-1.0)
    assert agreement(found, bad, 0.01).poor
    assert agreement(found, dict.fromkeys(good, -0.1), 0.01).correlation is None
    # Of all that are kept so many count as were drawn: the order of the least is chance.
    every = estimated(values, list(values), ["v0", "v1", "v7"])
    chance = {f"v{i}": -loss for i, loss in enumerate((0.3, 0.2, 0.1, 0.0, 0.01, 0.02, 0.03, 0.01))}
    assert agreement(every, chance, 0.01).correlation == pytest.approx(1.0)


@pytest.mark.parametrize(("others", "left"), [(1, 5), (6, 1), (6, 4), (10, 10), (7, 60), (20, 40)])
def test_how_many_that_were_left_out_may_lose_holds_for_any_number(others: int, left: int) -> None:
    """In all draws from so many ablations of which ``losing`` lose, by their probability."""
    for losing in range(others + left + 1):
        wrong = 0.0
        for missed in range(max(0, losing - left), min(others, losing) + 1):
            may_lose = EstimateAgreement(0, None, others, missed, left).may_lose
            assert 0 <= may_lose <= left
            if losing - missed > may_lose:
                rest = math.comb(others + left - losing, others - missed)
                wrong += math.comb(losing, missed) * rest / math.comb(others + left, others)
        assert wrong <= 0.05, losing


def test_the_report_says_loudly_where_estimates_fail(tmp_path: Path) -> None:
    recipe = SweepRecipe.model_validate(RECIPE | {"screen": {"keep": 4, "sample": 4, "images": 2}})
    ledger = run(recipe, tmp_path / "run").ledger
    known = screened(tmp_path / "run")
    assert known is not None
    results = ledger.results()
    exact = {one.name: one.evaluation.overall["AP"] or 0.0 for one in results[1:]}
    for sign, poor in ((-1, False), (1, True)):  # estimates that rank as the truth does, and not
        values = {name: sign * exact.get(name, 0.5) for name in known.estimates}
        changed = known.model_copy(update={"estimates": values})
        text, told = sentence(changed, results, 0.01)
        assert told is poor
        assert "more than 0.01 AP here" in text  # an evaluation's, not a true one
        assert ("DO NOT RELY ON THE SCREENING" in text) is poor
        assert text in table(changed, results, 0.01).text().replace("\n", " ")
    everything = known.model_copy(update={"estimates": values, "kept": [*values], "drawn": []})
    assert sentence(everything, results, 0.01)[1] is False  # nothing was left out
    json.loads((tmp_path / "run" / FILE).read_text(encoding="utf-8"))
