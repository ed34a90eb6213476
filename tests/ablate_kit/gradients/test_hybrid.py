"""What is known of the hybrid detector's gradients, found by the instrument."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ablate_kit.errors import UserError
from ablate_kit.gradients.advice.advice import Advice
from ablate_kit.gradients.advice.advise import advise
from ablate_kit.gradients.attribute import attribute
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import Diagnosis, TensorReport, diagnose
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.gradients.short_run import train_briefly
from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import HybridTraining
from detector.training.recipes.train_recipe import TrainRecipe, parse_recipe

STEPS = 8


def recipe(**training: object) -> TrainRecipe:
    model = {"preset": "tiny", "image_size": 96, "widths": [16, 32, 32, 32], "d_model": 32}
    return parse_recipe(
        {
            "model": model | {"queries": 12, "boxes": "absolute"},
            "data": {"kind": "shapes", "train": 8, "val": 2},
            "training": {"batch_size": 2, "lr": 1e-3, "seed": 3} | training,
        },
        where="the test's recipe",
    )


@dataclass
class Run:
    monitor: GradientMonitor
    diagnosis: Diagnosis
    attribution: Attribution
    advice: list[Advice]
    loss: float

    def tensor(self, name: str) -> TensorReport:
        return next(tensor for tensor in self.diagnosis.tensors if tensor.name == name)


def run_of(recipe: TrainRecipe, steps: int) -> Run:
    training = HybridTraining(recipe, recipe.data.datasets()[0])
    with GradientMonitor(training.model, training.optimizer, compat=True) as monitor:
        done = train_briefly(training, monitor, steps, seed=3)
    diagnosis = diagnose(monitor.measured())
    assert done.attribution is not None
    advice = advise(diagnosis, done.attribution)
    return Run(monitor, diagnosis, done.attribution, advice, done.loss)


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(recipe(), STEPS)


def test_every_tensor_takes_part(run: Run) -> None:
    assert all(tensor.gradients == STEPS for tensor in run.diagnosis.tensors)


def test_box_channels_of_the_dense_heads_get_no_loss(run: Run) -> None:
    for level in range(3):
        for part in ("weight", "bias"):
            found = run.tensor(f"backbone.dense_heads.{level}.{part}")
            assert found.verdict == "dead_rows"
            assert found.dead_rows == (8, 9, 10, 11)  # of 8 classes and 4 box coordinates
    (sentence,) = [a.sentence for a in run.advice if "dense auxiliary head" in a.sentence]
    assert sentence.startswith(
        "The four box channels of each dense auxiliary head get no loss: rows 8 to 11 of 12"
    )


def test_the_last_refinement_learns_only_through_the_center_loss(run: Run) -> None:
    shares = dict(zip(run.attribution.terms, run.attribution.shares(), strict=True))["center"]
    last = [i for i, n in enumerate(run.attribution.names) if n.startswith("decoder.layers.2.ref")]
    earlier = [i for i, n in enumerate(run.attribution.names) if n.startswith("decoder.layers.1.r")]
    assert len(last) == len(earlier) == 4
    assert shares[last].min() > 0.99
    assert shares[earlier].max() < 0.5
    (sentence,) = [a.sentence for a in run.advice if "'center'" in a.sentence]
    assert sentence.startswith("decoder.layers.2.refine1.weight")


def test_what_has_no_gradient_in_the_first_step_only(run: Run) -> None:
    """Gates that start at zero hide the temperatures behind them until they have moved."""
    norms = run.diagnosis.measured.timeline.norms()
    names = np.array(run.diagnosis.measured.names)
    hidden = set(names[norms[0] == 0])
    assert hidden == {name for name in names if name.endswith("log_tau")} | {"level_embed"}
    assert norms[-1][[name in hidden for name in names]].min() > 0


def test_key_biases_get_rounding_noise(run: Run) -> None:
    found = run.tensor("decoder.layers.0.self_attn.in_proj_bias")
    assert sorted((*found.dead_rows, *found.faint_rows)) == list(range(32, 64))


def test_accumulation_is_one_step() -> None:
    run = run_of(recipe(accumulate=3, batch_size=1), 2)
    assert run.diagnosis.steps == 2
    assert all(tensor.updates <= 2 for tensor in run.diagnosis.tensors)
    assert "no_update" not in run.diagnosis.counts()


def test_the_same_seed_gives_the_same_numbers() -> None:
    state = torch.get_rng_state()
    once, again = run_of(recipe(), 2), run_of(recipe(), 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.loss == once.loss
    assert again.diagnosis.tensors == once.diagnosis.tensors


def test_frozen_modules() -> None:
    run = run_of(recipe(freeze=["backbone"]), 1)
    assert run.diagnosis.frozen
    assert all(name.startswith("backbone.") for name in run.diagnosis.frozen)
    assert not any(tensor.name.startswith("backbone.") for tensor in run.diagnosis.tensors)


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    values = recipe(lr=1e30, clip=1e30, clip_offsets=1e30)
    training = HybridTraining(values, values.data.datasets()[0])
    with GradientMonitor(training.model, training.optimizer) as monitor:
        done = train_briefly(training, monitor, 20, seed=3)
    assert done.steps < 20
    assert not np.isfinite(done.loss)
    assert diagnose(monitor.measured()).counts()["non_finite"] > 0


def test_terms_leave_the_gradients_alone() -> None:
    layer = torch.nn.Linear(2, 1)
    out = layer(torch.ones(1, 2)).sum()
    terms = {"a": out, "b": 2 * layer.bias.sum(), "constant": torch.ones(())}
    found = attribute(terms, ["weight", "bias"], list(layer.parameters()), step=1)
    assert found is not None
    assert found.terms == ("a", "b")
    np.testing.assert_allclose(found.norms, [[2**0.5, 1], [0, 2]], rtol=1e-6)
    assert found.sole() == {"a": [("weight", 1.0)]}
    assert layer.bias.grad is None
    assert attribute({"a": out}, ["weight", "bias"], list(layer.parameters()), step=1) is None


def test_unknown_modules_to_freeze_are_refused() -> None:
    with pytest.raises(UserError, match='did you mean "backbone"'):
        run_of(recipe(freeze=["bakcbone"]), 1)
