"""One small tensor per way of not learning, and the verdict that it must get."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ablate_kit.gradients.advice.advise import advise
from ablate_kit.gradients.advice.of_verdicts import stopped
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.diagnose import Diagnosis, TensorReport, diagnose
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.reports.gradient_reports.gradients_text import GradientReport, details, summary

STEPS = 30
Loss = Callable[["Toy", int], Tensor]


class Toy(nn.Module):
    """``fine`` learns; ``odd`` is the one in question."""

    def __init__(self, odd: Tensor) -> None:
        super().__init__()
        self.fine = nn.Parameter(torch.linspace(-1, 1, 6))
        self.odd = nn.Parameter(odd)


def learn(toy: nn.Module, optimizer: Optimizer, loss: Loss, steps: int = STEPS) -> Diagnosis:
    with GradientMonitor(toy, optimizer, interval=7) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            loss(toy, step).backward()
            optimizer.step()
    return diagnose(monitor.measured())


def verdicts(
    odd: Tensor, loss: Loss, kind: type[Optimizer] = AdamW, **options: float
) -> TensorReport:
    toy = Toy(odd)
    options = {"lr": 1e-2} | options
    fine, found = learn(toy, kind(toy.parameters(), **options), loss).tensors
    assert fine.name == "fine"
    assert fine.verdict == "healthy" or found.verdict == "non_finite"
    return found


def ones() -> Tensor:
    return torch.ones(4)


def fine(toy: Toy) -> Tensor:
    return 0.1 * (toy.fine - 3).square().sum()


def test_a_tensor_that_learns_is_healthy() -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy) + toy.odd.square().sum())
    assert found.verdict == "healthy"
    assert (found.flags, found.why) == ((), "")
    assert found.gradients == found.nonzero == found.updates == STEPS


def test_no_gradient() -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy))
    assert found.verdict == "never_updated"
    assert found.why == "no gradient in any of 30 steps"
    assert found.gradients == 0


@pytest.mark.parametrize(("kind", "decay"), [(AdamW, 0.1), (SGD, 0.1), (Adam, 0.1), (AdamW, 0.0)])
def test_weight_decay_does_not_mask_a_zero_gradient(kind: type[Optimizer], decay: float) -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy) + 0 * toy.odd.sum(), kind, weight_decay=decay)
    assert found.verdict == "never_updated"
    assert "exactly zero in all 30 steps" in found.why
    assert ("weight decay alone has moved it" in found.why) == (decay > 0)
    assert (found.change_max or 0) > 0 or not decay
    if kind is not Adam:  # whose decay goes through the moments
        assert found.updates == 0
        assert found.update_norm == pytest.approx(0, abs=1e-7)


def test_nan_from_the_start() -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy) + (toy.odd * float("nan")).sum())
    assert found.verdict == "non_finite"
    assert (found.first_bad, found.bad_steps) == (1, STEPS)


def test_nan_later_is_never_healthy() -> None:
    found = verdicts(
        ones(), lambda toy, step: fine(toy) + (toy.odd * (1 if step < 20 else float("nan"))).sum()
    )
    assert found.verdict == "non_finite"
    assert found.why == "gradient not finite in 10 of 30 steps, first at step 21"
    assert found.grad_norm == pytest.approx(2.0)  # of the 20 finite ones


def test_infinite_gradient() -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy) + (toy.odd * float("inf")).sum(), SGD)
    assert found.verdict == "non_finite"


def test_weights_that_are_not_finite() -> None:
    weights = torch.tensor([1.0, float("inf"), 2.0])
    found = verdicts(weights, lambda toy, _: fine(toy) + toy.odd[0])
    assert found.verdict == "non_finite"
    assert found.why.startswith("weights not finite in 30")


def test_steps_below_the_spacing_of_the_numbers() -> None:
    """At 1, float32 numbers are 6e-8 and 1.2e-7 apart; a step of 1e-8 is rounded away."""
    found = verdicts(ones(), lambda toy, _: fine(toy) + 1e-7 * toy.odd.sum(), SGD, lr=0.1)
    assert found.verdict == "no_update"
    assert "in 30 not a bit changed" in found.why
    assert found.lost == 1.0


def test_bfloat16_weights_that_lose_their_steps_in_part() -> None:
    weights = torch.tensor([1.0, 1.0, 1.0, 1e-3], dtype=torch.bfloat16)
    found = verdicts(
        weights, lambda toy, _: fine(toy) + toy.odd.float().sum(), AdamW, lr=1e-3, weight_decay=0.0
    )
    assert found.verdict == "below_ulp"
    assert found.lost == pytest.approx(0.75)


def test_a_learning_rate_of_zero() -> None:
    toy = Toy(ones())
    optimizer = AdamW([{"params": [toy.fine], "lr": 1e-2}, {"params": [toy.odd], "lr": 0.0}])
    found = learn(toy, optimizer, lambda toy, _: fine(toy) + toy.odd.sum()).tensors[1]
    assert found.verdict == "no_update"
    assert found.why == "its learning rate is 0"


def test_a_gradient_that_has_gone_is_not_counted_on() -> None:
    """The notebook takes the last gradient it saw for one that is there."""

    def loss(toy: Toy, step: int) -> Tensor:
        return fine(toy) + (toy.odd.sum() if step < 10 else 0)

    found = verdicts(ones(), loss)
    assert found.verdict == "intermittent"
    assert found.why == "a gradient in 10 of 30 steps, last at step 10"
    assert "no_update" not in found.flags
    assert found.gradients == 10


def test_units_that_died_are_not_said_to_have_a_small_gradient() -> None:
    """Behind a ReLU that no input passes any more, in a loss that is still there."""

    def loss(toy: Toy, step: int) -> Tensor:
        return fine(toy) + (toy.odd if step < 10 else -toy.odd.abs() - 1).relu().sum()

    toy = Toy(ones())
    diagnosis = learn(toy, AdamW(toy.parameters(), lr=1e-2), loss)
    assert diagnosis.tensors[1].verdict == "intermittent"
    (told,) = (one.sentence for one in advise(diagnosis) if one.verdict == "intermittent")
    assert told.startswith("1 tensor had a gradient in only 10 of 30 steps, last at step 10: odd.")
    assert "did its units die (a ReLU that no input passes), at a learning rate of 1.0e-02?" in told
    assert "mean norm" not in told


def test_a_branch_that_is_seldom_taken_is_not_said_to_have_stopped() -> None:
    """Of 30 steps with a branch that is taken by chance, one in a hundred ends so; none of those
    that stop after ten."""
    rng = np.random.default_rng(0)
    for often in (0.05, 0.2, 0.4):
        taken = rng.random((2000, STEPS)) < often
        taken = taken[taken.any(axis=1)]
        last = STEPS - taken[:, ::-1].argmax(axis=1)
        said = [stopped(int(n), int(at), STEPS) for n, at in zip(taken.sum(1), last, strict=True)]
        assert np.mean(said) <= 0.015
    assert stopped(10, 10, STEPS)
    assert stopped(6, 12, STEPS)
    assert not stopped(1, 1, STEPS)


@pytest.mark.parametrize(("kind", "adams"), [(AdamW, True), (Adam, True), (SGD, False)])
def test_only_of_adam_it_is_said_what_its_steps_do_not_depend_on(
    kind: type[Optimizer], adams: bool
) -> None:
    toy = Toy(torch.full((4,), 1e-6))
    run = learn(toy, kind(toy.parameters(), lr=1e-2), lambda t, _: fine(t) + 1e-6 * t.odd.sum())
    (told,) = (one.sentence for one in advise(run) if one.verdict == "low")
    assert ("Adam's steps do not depend" in told) == adams
    assert ("The smallest step is" in told) != adams


@pytest.mark.parametrize(
    ("used", "held", "said"),
    [
        (0, True, "1 tensor takes no part in the loss"),
        (1, False, "1 tensor has a gradient and no group of the optimizer"),
    ],
)
def test_a_sentence_on_one_tensor(used: int, held: bool, said: str) -> None:
    toy = Toy(ones())
    optimizer = AdamW([toy.fine, toy.odd] if held else [toy.fine], lr=1e-2)
    diagnosis = learn(toy, optimizer, lambda t, _: fine(t) + (t.odd.sum() if used else 0))
    assert any(one.sentence.startswith(said) for one in advise(diagnosis))


def test_a_reason_that_tensors_do_not_share_is_said_to_be_of_one() -> None:
    model = nn.ParameterDict({name: ones() for name in ("learns", "odd", "other")})

    def told(*terms: str) -> str:
        def loss(_: object, step: int) -> Tensor:
            return sum((model[one].square().sum() for one in terms), start=torch.zeros(()))

        diagnosis = learn(model, AdamW([model["learns"]], lr=1e-2), loss, steps=1)
        (found,) = (one.sentence for one in advise(diagnosis) if "no group" in one.sentence)
        return found

    assert "group of the optimizer (it is in no group" in told("learns", "odd")
    model["odd"].grad = None
    model["other"].data *= 2
    assert "group of the optimizer (odd: it is in no group" in told("learns", "odd", "other")


def test_a_share_that_is_not_all_is_not_rounded_up_to_all() -> None:
    toy = Toy(ones())
    diagnosis = learn(
        toy,
        AdamW(toy.parameters(), lr=1e-2),
        lambda toy, step: fine(toy) + (1e-6 if step else 1.0) * toy.odd.sum(),
        steps=250,
    )
    (told,) = (one.sentence for one in advise(diagnosis) if one.verdict == "low")
    assert "is low in at least 99% of the steps" in told  # of 99.6
    norms = np.array([[2.0, 1.0], [0.0, 0.0012]])
    found = Attribution(3, ("boxes", "classes"), ("fine", "odd"), norms)
    (told,) = (one.sentence for one in advise(diagnosis, found) if one.verdict == "loss terms")
    assert "learn almost only through the loss term 'boxes' (99.8% or more of" in told
    found = Attribution(3, ("boxes", "classes"), ("fine", "odd"), norms * [1, 0])
    (told,) = (one.sentence for one in advise(diagnosis, found) if one.verdict == "loss terms")
    assert "fine: this tensor learns only through the loss term 'boxes' (all of its" in told


def test_frozen_tensors_and_one_of_a_kind_are_counted_in_the_summary() -> None:
    toy = Toy(ones())
    toy.odd.requires_grad_(False)
    report = GradientReport(
        {}, learn(toy, AdamW([toy.fine], lr=1e-2), lambda toy, _: fine(toy)), []
    )
    told = summary(report)
    assert told.startswith("10 elements in 2 tensors, 30 steps: 1 healthy, 1 frozen\n")
    assert "healthy: 1 tensor\n" in told


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "intermittent"), (1e-6, "low"), (1e-8, "vanishing")]
)
def test_a_branch_that_is_seldom_taken_is_the_same_with_zeros_for_no_gradient(
    to_none: bool, factor: float, verdict: str
) -> None:
    """As ``zero_grad(set_to_none=False)`` and data parallelism leave in place of None."""
    toy = Toy(ones())
    optimizer = AdamW(toy.parameters(), lr=1e-2)
    with GradientMonitor(toy, optimizer) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad(set_to_none=to_none)
            (fine(toy) + (factor * toy.odd.sum() if step % 3 == 0 else 0)).backward()
            optimizer.step()
    diagnosis = diagnose(monitor.measured())
    found = diagnosis.tensors[1]
    assert (found.verdict, found.nonzero) == (verdict, 10)
    assert "intermittent" in found.flags
    if factor < 1:
        assert "in 10 of 10 steps" in found.why


def test_a_branch_that_is_taken_often_is_healthy() -> None:
    found = verdicts(ones(), lambda toy, i: fine(toy) + (toy.odd.sum() if i % 3 else 0))
    assert found.verdict == "healthy"
    assert (found.gradients, found.updates) == (20, 20)


def test_slow_drift_under_the_threshold_counts_as_moving() -> None:
    """Steps of 5e-9 are below the limit of 1e-8, and 5e-5 of these weights."""
    found = verdicts(
        torch.full((4,), 1e-4), lambda toy, _: fine(toy) + 5e-8 * toy.odd.sum(), SGD, lr=0.1
    )
    assert found.updates == STEPS
    assert "no_update" not in found.flags
    assert "unchanged" not in found.flags
    assert found.update_ratio == pytest.approx(5e-5, rel=0.02)
    assert found.change_max == pytest.approx(STEPS * 5e-9, rel=0.02)


def test_vanishing_low_and_high_by_the_norm() -> None:
    def found(factor: float) -> TensorReport:
        return verdicts(torch.full((4,), 0.01), lambda toy, _: fine(toy) + factor * toy.odd.sum())

    assert found(1e-8).verdict == "vanishing"  # norm 2e-8
    assert found(1e-6).verdict == "low"
    assert found(1e-4).verdict == "healthy"
    assert found(10.0).verdict == "high"
    assert found(1e-8).grad_rms == pytest.approx(1e-8)


def test_a_bias_that_batch_normalization_takes_off_again_is_harmless() -> None:
    """Not a small factor in front of it, which advice on a small gradient looks for."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))
    images = torch.randn(8, 2, 8, 8)

    def loss(model: Any, _: int) -> Tensor:
        return 0.1 * (model(images) - images[:, :1, 1:-1, 1:-1]).square().mean()

    diagnosis = learn(model, AdamW(model.parameters(), lr=1e-3), loss)
    assert [t.name for t in diagnosis.tensors if t.verdict != "healthy"] == ["0.bias"]
    (told,) = advise(diagnosis)
    assert told.harmless
    assert told.sentence.startswith("The gradient of 1 bias is rounding noise (norm")
    assert "takes off whatever constant is added there" in told.sentence


def test_low_counts_what_vanishes() -> None:
    """The notebook's band leaves a tensor that is 40 % vanishing and 40 % low without a flag."""
    factors = [1e-8, 1e-8, 1e-6, 1e-6, 1e-2]
    toy = Toy(torch.full((4,), 0.01))
    optimizer = AdamW(toy.parameters(), lr=1e-2)
    diagnosis = learn(toy, optimizer, lambda toy, i: fine(toy) + factors[i % 5] * toy.odd.sum())
    found = diagnosis.tensors[1]
    assert found.verdict == "low"
    assert (found.vanishing, found.low) == (pytest.approx(0.4), pytest.approx(0.8))
    told = " ".join(one.sentence for one in advise(diagnosis))
    assert "is low in at least 80% of the steps (mean norm 4.0e-03): odd." in told


def test_unchanged_from_the_start() -> None:
    """Each step moves it and the next moves it back."""
    found = verdicts(
        ones(), lambda toy, i: fine(toy) + (-1) ** i * 1e-2 * toy.odd.sum(), SGD, lr=1e-2
    )
    assert found.updates == STEPS
    assert found.verdict == "unchanged"


def test_dead_rows() -> None:
    found = verdicts(torch.ones(6, 3), lambda toy, _: fine(toy) + toy.odd[:4].square().sum())
    assert found.verdict == "dead_rows"
    assert found.dead_rows == (4, 5)
    assert found.dead_share == pytest.approx(1 / 3)
    assert found.grad_zero == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("place", [0, -2])
def test_an_embedding_is_not_dead_where_it_pads(
    kind: type[nn.Embedding] | type[nn.EmbeddingBag], place: int
) -> None:
    torch.manual_seed(0)
    table = kind(5, 3, padding_idx=place)
    every = torch.arange(5)[None]

    def loss(_: nn.Module, seen: Tensor) -> Tensor:
        return 0.1 * (table(seen) - 1).square().sum()

    optimizer = AdamW(table.parameters(), lr=1e-2)
    (found,) = learn(table, optimizer, lambda toy, _: loss(toy, every)).tensors
    assert (found.verdict, found.dead_rows) == ("healthy", ())
    # An entry that is never looked up is one, and said to be no unit that died.
    optimizer = AdamW(table.parameters(), lr=1e-2)
    run = learn(table, optimizer, lambda toy, _: loss(toy, every[:, :4]))
    assert run.tensors[0].dead_rows == (4,)
    (told,) = (one.sentence for one in advise(run) if one.verdict == "dead_rows")
    assert told.startswith(
        "In 1 embedding some entries get no gradient in any of 30 steps (row 4 of 5): weight. No "
        "batch looked them up"
    )


def test_the_padding_of_a_table_that_is_shared_is_known_by_either_name() -> None:
    torch.manual_seed(0)
    tied = nn.ModuleDict({"first": nn.Embedding(4, 2), "second": nn.Embedding(4, 2, padding_idx=1)})
    tied["first"].weight = tied["second"].weight
    run = learn(
        tied,
        AdamW(tied.parameters(), lr=1e-2),
        lambda toy, _: (toy["second"](torch.arange(4)) - 1).square().sum(),
    )
    assert [(one.name, one.verdict) for one in run.tensors] == [("first.weight", "healthy")]


def test_rows_of_a_transposed_convolution_are_its_outputs() -> None:
    layer = nn.ConvTranspose2d(2, 3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.1, 1, layer.weight.numel()).view_as(layer.weight))
    image = torch.ones(1, 2, 4, 4)
    (found,) = learn(
        layer, AdamW(layer.parameters()), lambda toy, _: layer(image)[:, :2].square().sum()
    ).tensors
    assert (found.rows, found.dead_rows) == (3, (2,))


def test_rows_with_rounding_noise_only() -> None:
    scale = torch.tensor([1.0, 1.0, 1e-9, 1.0])
    found = verdicts(ones(), lambda toy, _: fine(toy) + (scale * toy.odd).sum())
    assert found.faint_rows == (2,)
    assert found.verdict == "dead_rows"


def test_not_in_the_optimizer() -> None:
    toy = Toy(ones())
    found = learn(toy, AdamW([toy.fine], lr=1e-2), lambda t, _: fine(t) + t.odd.sum()).tensors[1]
    assert found.verdict == "never_updated"
    assert found.why.startswith("it is in no group of the optimizer")


@pytest.mark.parametrize("handed", [False, True])
def test_frozen_parameters_are_no_finding(handed: bool) -> None:
    """Nor are they where the optimizer got all of the model's parameters."""
    toy = Toy(ones())
    toy.odd.requires_grad_(False)
    optimizer = AdamW(toy.parameters() if handed else [toy.fine], lr=1e-2)
    diagnosis = learn(toy, optimizer, lambda t, _: fine(t) + t.odd.sum())
    assert diagnosis.counts() == {"healthy": 1, "frozen": 1}
    assert diagnosis.frozen == ("odd",)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.stages = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x


def test_advice_names_what_is_frozen_by_whole_modules() -> None:
    model = Branches()
    for part in (model.stem, model.stages[1].weight):
        part.requires_grad_(False)
    diagnosis = learn(model, AdamW(model.parameters(), lr=1e-2), _squares)
    (told,) = (one.sentence for one in advise(diagnosis) if one.verdict == "frozen")
    assert told == (
        "3 tensors are frozen (requires_grad is off), 45% of the elements: stem.*, "
        "stages.1.weight. Nothing of that is learned."
    )
    assert diagnosis.frozen == ("stem.weight", "stem.bias", "stages.1.weight")


@pytest.mark.parametrize(("rate", "told"), [(1e-7, True), (1e-3, False)])
def test_advice_names_what_hardly_learns_at_its_learning_rate(rate: float, told: bool) -> None:
    model = Branches()
    groups = [
        {"params": [*model.stem.parameters(), *model.stages[:2].parameters()]},
        {"params": model.stages[2].parameters(), "lr": rate},
    ]
    found = advise(learn(model, AdamW(groups, lr=1e-2), _squares))
    about = [one for one in found if one.verdict == "learning rate"]
    assert bool(about) == told
    for one in about:
        assert one.tensors == ("stages.2.weight", "stages.2.bias")
        assert "at a learning rate of 1.0e-07 (the highest of the others: 1.0e-02)" in one.sentence


def _squares(model: nn.Module, _: int) -> Tensor:
    loss: Tensor = model(torch.eye(4)).square().sum()
    return loss


def test_what_is_thawed_in_the_run_is_no_longer_frozen() -> None:
    toy = Toy(ones())
    toy.odd.requires_grad_(False)

    def loss(toy: Toy, step: int) -> Tensor:
        toy.odd.requires_grad_(step > 3)
        return fine(toy) + 0 * toy.odd.sum()

    diagnosis = learn(toy, AdamW(toy.parameters(), lr=1e-2), loss)
    assert diagnosis.counts() == {"healthy": 1, "never_updated": 1}
    assert diagnosis.frozen == ()


def test_what_is_thawed_and_handed_over_later_is_not_called_frozen() -> None:
    """As fine-tuning does that gives the optimizer a module once it is to learn."""
    toy = Toy(ones())
    toy.odd.requires_grad_(False)
    optimizer = AdamW([toy.fine], lr=1e-2)

    def loss(toy: Toy, step: int) -> Tensor:
        if step == 3:
            toy.odd.requires_grad_()
            optimizer.add_param_group({"params": [toy.odd]})
        return fine(toy) + toy.odd.square().sum()

    diagnosis = learn(toy, optimizer, loss)
    assert not torch.equal(toy.odd, ones())
    assert diagnosis.counts() == {"healthy": 1, "not_measured": 1}
    assert (diagnosis.frozen, diagnosis.measured.thawed) == ((), ("odd",))
    told = {one.verdict: one.sentence for one in advise(diagnosis)}
    assert told["not_measured"].startswith(
        "1 tensor was frozen when the monitor was made, and trained later: odd."
    )
    assert "frozen" not in told
    report = GradientReport({}, diagnosis, ())
    assert details(report).rows[-1][:2] == ("odd", "not_measured")
    assert report.modules()["odd"] == {"not_measured": 1}


def test_a_gradient_that_is_large_is_finite_though_its_square_is_not() -> None:
    found = verdicts(ones(), lambda toy, _: fine(toy) + 1e25 * toy.odd.sum())
    assert (found.verdict, found.bad_steps) == ("no_update", 0)  # Adam's square of it is infinite
    assert found.high == 1
    assert found.grad_max == pytest.approx(1e25)


def test_nothing_is_said_before_a_step() -> None:
    toy = Toy(ones())
    diagnosis = learn(toy, AdamW(toy.parameters()), lambda toy, _: fine(toy), steps=0)
    assert diagnosis.steps == 0
    assert all(not tensor.flags for tensor in diagnosis.tensors)
    assert diagnosis.counts() == {"not_measured": 2}
    (advice, *_) = advise(diagnosis)
    assert "Steps of another optimizer than the monitor was given are not seen" in advice.sentence
