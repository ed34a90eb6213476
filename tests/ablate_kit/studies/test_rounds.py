"""Which cuts a study makes, on a clock that moves as the test says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.metrics.uncertainty.verdict import Outcome
from ablate_kit.studies.budget import Budget, parse_budget
from ablate_kit.studies.budget_plan import Candidate, Outline, affordable
from ablate_kit.studies.cuts import Cut
from ablate_kit.studies.noted import Noted, NotedPart
from ablate_kit.studies.pace import EACH, FORWARD, Load, Pace
from ablate_kit.studies.rounds import MadeCuts, Study
from ablate_kit.studies.spending import Spending
from ablate_kit.sweeps.estimates.timed_pass import PassTime
from ablate_kit.sweeps.variants.variant import Variant

IMAGES = 100
PASS = 0.03  # seconds of an image


@dataclass
class Machine:
    """What cuts cost here, and the time that has passed.

    Attributes:
        forward, each: as of a ``Load``; what a study believes beforehand is other.
        outcomes: of variants; the others cost.
    """

    shares: dict[str, float]
    outcomes: dict[str, Outcome]
    forward: float = 2.1
    each: float = 0.004
    margin: float = 0.01
    judging: float = 0.1
    now: float = 1000.0
    found: dict[str, tuple[float, Outcome]] = field(default_factory=dict)

    def run(self, variants: Sequence[Variant]) -> None:
        shares = [1.0 if not one.digest else self.shares[one.name] for one in variants]
        self.now += IMAGES * (self.forward * PASS * sum(shares) + self.each * len(shares))

    def judge(self, variants: Iterable[Variant]) -> None:
        for one in variants:
            self.now += self.judging
            outcome = self.outcomes.get(one.name, "costs")
            self.found[one.name] = (0.0 if outcome == "free" else -0.1), outcome


class Numbers:
    def __init__(self) -> None:
        self.overall = {"AP": 0.5}


class Shares(dict[str, float]):
    """Those of parts; a joint cut restarts where its first member does, a control with its head."""

    notes: Noted

    def __missing__(self, name: str) -> float:
        members = self.notes.together.get(name, [name.removesuffix("-control0")])
        return max(self[one] for one in members)


def model(parts: Sequence[tuple[str, int, float]]) -> Outline:
    """Of parts (name, depth, share), each inside of the last one that is less deep."""
    found: list[Candidate] = []
    for name, depth, share in parts:
        above = [i for i, one in enumerate(found) if one.depth == depth - 1]
        cut = Cut(name, "removed", name, {"kind": "component", "pattern": [name]})
        cut = cut if "head" not in name else Cut(name[:-1], "removed", name, cut.line, 0)
        found.append(Candidate(cut, "layer", 64, depth, above[-1] if above else None, share))
    return Outline(tuple(found), PassTime(PASS, 0.0), 1000)


#: A backbone, dear to cut, and a decoder of 12 layers of 8 heads.
PARTS = [
    ("backbone", 0, 1.0),
    *((f"backbone.{i}", 1, 1.0 - i / 8) for i in range(4)),
    *((f"backbone.3.{i}", 2, 0.5) for i in range(12)),
    ("decoder", 0, 0.3),
    *(
        one
        for layer in range(12)
        for one in (
            (f"decoder.{layer}", 1, 0.3 - layer / 50),
            *((f"decoder.{layer}.head{head}", 2, 0.3 - layer / 50) for head in range(8)),
        )
    ),
]


def study(
    budget: str, machine: Machine | None = None, notes: Noted | None = None,
    parts: Sequence[tuple[str, int, float]] = PARTS, clash: Sequence[str] = (),
    means: Sequence[str] = (),
) -> tuple[Noted, float, Machine]:  # fmt: skip
    """What is noted of a study that has ended, how long it took with its report, and on what."""
    outline = model(parts)
    notes = notes or Noted(
        budget=budget, images=IMAGES, total=1000, margin=0.01,
        parts=[
            NotedPart(part=one.cut.part, head=one.cut.head, kind=one.kind, elements=64,
                      depth=one.depth, parent=one.parent, how="removed", variant=one.cut.variant)
            for one in outline.candidates
        ],
    )  # fmt: skip
    machine = machine or Machine({}, {})
    shares = Shares({name: share for name, _, share in parts})
    shares.notes = notes
    machine.shares = shares
    shapes = {name: (8, 8) for name, _, _ in parts}
    made = {
        name: Ablation(name, "component", (Edit(name, Blocks(0, ((0, 4),))),))
        for name, _, _ in parts
    }
    for value, name in enumerate(clash):  # which say different things of the same elements
        made[name] = Ablation(name, "component", (Edit(parts[0][0], value=float(value)),))
    began = machine.now
    asked: Budget = parse_budget(budget)
    spent = notes.spent
    spending = Spending(
        outline, asked, notes, lambda count, each: 4 + (each or 0.2) * count, began,
        lambda: machine.now,
    )  # fmt: skip
    zeros = {name: f"{name}-zero" for name in means}
    made |= {zero: Ablation(zero, "zero", made[name].edits) for name, zero in zeros.items()}
    shares |= {zero: shares[name] for name, zero in zeros.items()}
    cuts = MadeCuts(made, zeros, shapes)
    one = Study(outline, notes, cuts, machine, spending, lambda: None, lambda: machine.now)
    rounds = one.rounds()
    ran: set[str] = set()
    variants = next(rounds)
    while True:
        new = [one for one in variants if one.name not in ran]
        if len(new) > int(variants[0] not in new):  # the unmodified model runs with each round
            machine.run([variants[0], *(x for x in new if x is not variants[0])])
        ran |= {one.name for one in variants[1:]}
        try:
            variants = rounds.send({"": Numbers()})
        except StopIteration:
            break
    took = machine.now - began + spent + 4 + 0.1 * len(one.evaluated)
    return notes, took, machine


def states(notes: Noted, state: str) -> list[str]:
    return [one.variant for one in notes.parts if one.state == state]


@pytest.mark.parametrize("budget", ["100s", "3m", "5m", "12m"])
@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("free", [0, 1, 5])
def test_a_budget_is_spent_and_no_more(budget: str, speed: float, free: int) -> None:
    outcomes: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(free)}
    machine = Machine({}, outcomes, 1.3 * speed, 0.003 * speed, 0.1 * speed)
    notes, took, _ = study(budget, machine)
    seconds = parse_budget(budget).seconds or 0.0
    least = 0.0 if not states(notes, "not afforded") else 0.8
    assert least * seconds < took < 1.2 * seconds
    found = set(outcomes) & set(states(notes, "cut"))
    assert (len(found) > 1) == ("all-free-together" in notes.together)
    assert bool(notes.needed) == bool(states(notes, "not afforded"))


def test_zero_stands_beside_the_means_of_parts_apart() -> None:
    """A block and the layers inside of it would tell the same three times over."""
    means = ["backbone", "backbone.0", "backbone.1", "decoder.0", "decoder.1"]
    notes, _, _ = study("12m", means=means)
    assert set(notes.zeros.values()) == {"backbone", "decoder.0", "decoder.1"}


def test_heads_leave_room_for_random_controls() -> None:
    for budget in ("3m", "8000 passes"):
        notes, _, _ = study(budget)
        assert any("head" in name for name in states(notes, "cut"))
        assert len(notes.controls) == 4
        assert set(notes.rounds[-1]) == {f"{name}-control0" for name in notes.controls}


def test_what_is_kept_for_joint_cuts_and_not_needed_goes_to_further_parts() -> None:
    """As nothing is free, every second is for parts."""
    notes, took, machine = study("4m")
    assert notes.together == {}
    left = 240 - took
    cheapest = IMAGES * (machine.forward * PASS * 1.08 + 2 * machine.each) + 2 * machine.judging
    assert left < 2 * cheapest
    assert states(notes, "not afforded")


def test_cheap_cuts_run_where_a_dear_one_is_not_affordable() -> None:
    parts = [("a", 0, 1.0), ("b", 0, 1.0), ("c", 0, 0.05), ("d", 0, 0.05)]
    notes, _, _ = study("24s", parts=parts)
    assert {"c", "d"} <= set(states(notes, "cut"))
    assert "b" in states(notes, "not afforded")


def test_the_budget_that_is_said_to_be_needed_is_enough_and_not_far_more() -> None:
    notes, _, _ = study("3m")
    assert states(notes, "not afforded")
    enough, took, _ = study(notes.needed)
    assert not states(enough, "not afforded")
    assert took > 0.75 * (parse_budget(notes.needed).seconds or 0.0)


@pytest.mark.parametrize("free", [0, 5, 8])
@pytest.mark.parametrize("budget", ["2500 passes", "3600 passes", "5000 passes"])
def test_the_passes_that_are_said_to_be_needed_are_enough_for_all(budget: str, free: int) -> None:
    """With the random controls that were not reached, either."""
    outcomes: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(free)}
    notes, _, _ = study(budget, Machine({}, outcomes))
    assert states(notes, "not afforded")
    for earlier in (notes.model_copy(deep=True), None):  # which it goes on with, or not
        enough, _, _ = study(notes.needed, Machine({}, outcomes), earlier)
        assert not states(enough, "not afforded")
        assert enough.controls


def test_a_larger_budget_goes_on_from_where_the_smaller_one_ended() -> None:
    free: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(0, 12, 3)}
    free |= {"backbone.3.1": "free", "backbone.3.2": "free"}
    first, _, _ = study("100s", Machine({}, free))
    before = {name for names in first.rounds for name in names}
    rounds = [list(names) for names in first.rounds]
    # The same budget again finds nothing to do.
    again, _, _ = study("100s", Machine({}, free), first.model_copy(deep=True))
    assert again.rounds == rounds
    larger, took, _ = study("400s", Machine({}, free), first)
    assert larger.rounds[: len(rounds)] == rounds
    assert list(first.together) == list(larger.together)[: len(first.together)] != []
    assert len({name for names in larger.rounds for name in names}) > 2 * len(before)
    assert 0.8 * 400 < took < 1.2 * 400
    # What is free by now is cut at once, once more, as it is other than what was free before.
    *_, last = [name for name in larger.together if name.startswith("all-free")]
    assert set(larger.together[last]) == set(free)
    assert last != "all-free-together"


def test_nothing_is_cut_inside_of_what_is_free() -> None:
    notes, _, _ = study("2h", Machine({}, {"decoder": "free"}))
    inside = states(notes, "inside a free part")
    assert len(inside) == 12 * 9
    assert all(name.startswith("decoder.") for name in inside)
    assert states(notes, "not afforded") == []
    assert notes.stopped == ""


def test_passes_are_kept_to_on_every_machine_alike() -> None:
    free: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(6)}
    slow, _, _ = study("4,000 passes", Machine({}, free, forward=9.0))
    quick, _, _ = study("4000 image passes", Machine({}, free, forward=0.1))
    assert slow.rounds == quick.rounds
    variants = {name for names in slow.rounds for name in names}
    assert 0.9 * 40 < 1 + len(variants) <= 40
    assert "all-free-together" in variants
    assert slow.needed.endswith("image passes")


def test_where_joint_cuts_are_not_free_parts_of_them_are_cut_at_once() -> None:
    free: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(8)}
    notes, _, _ = study("1h", Machine({}, free))
    sizes = {name: len(members) for name, members in notes.together.items()}
    assert sizes == {
        "all-free-together": 8, "4-of-free-together": 4, "6-of-free-together": 6,
        "2-of-free-together": 2,
    }  # fmt: skip
    together: dict[str, Outcome] = {"all-free-together": "free"}
    notes, _, _ = study("1h", Machine({}, free | together))
    assert list(notes.together) == ["all-free-together"]


def test_parts_of_joint_cuts_are_counted_without_those_that_disagree() -> None:
    clash = [f"decoder.{i}" for i in range(6)]
    free: dict[str, Outcome] = {f"decoder.{i}": "free" for i in range(10)}
    notes, _, _ = study("1h", Machine({}, free), clash=clash)
    sizes = {name: len(members) for name, members in notes.together.items()}
    assert sizes == {
        "all-free-together": 5, "2-of-free-together": 2, "3-of-free-together": 3
    }  # fmt: skip


def test_the_pace_is_that_of_the_rounds_that_ran() -> None:
    pace = Pace()
    assert pace.seconds(Load(10.0, 500)) == pytest.approx(10 * FORWARD + 500 * EACH)
    rounds = [Load(20.0, 600), Load(5.0, 2000), Load(9.0, 900)]
    for one in rounds:
        pace.learn(one, 3 * one.forward + 0.01 * one.met)
    new = Load(8.0, 1500)
    assert pace.seconds(new) == pytest.approx(3 * 8 + 0.01 * 1500, rel=0.1)


def test_the_plan_fits_what_a_budget_allows_in_the_order_of_the_rounds() -> None:
    made = model(PARTS)
    for budget in ("50s", "2m"):
        fits = affordable(made, parse_budget(budget), IMAGES)
        assert made.cost(fits, IMAGES) <= (parse_budget(budget).seconds or 0.0)
        left = [one for one in made.candidates if one not in fits]
        assert fits
        assert left
        assert {one.cut.variant for one in fits} >= {"backbone", "decoder"}
