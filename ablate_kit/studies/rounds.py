"""Which cuts come next: the top-level parts, then what is inside of those that matter or may.

A generator of rounds for the one engine (``sweeps.scheduler.Rounds``). A part that is found free is
not looked into: what is inside of it is free together. The verdicts here only steer; those that a
report gives are adjusted for everything that was asked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.random_controls import random_controls
from ablate_kit.ablations.union import joined
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.chance import held_against_chance
from ablate_kit.metrics.uncertainty.verdict import NEXT_TO_NOTHING, Outcome
from ablate_kit.studies.budget import Budget
from ablate_kit.studies.budget_plan import Outline
from ablate_kit.studies.noted import INSIDE_FREE, Noted
from ablate_kit.sweeps.run import Evaluating
from ablate_kit.sweeps.variant import UNMODIFIED, Variant

TOGETHER = "all-free-together"
_RESAMPLES = 200  # of verdicts that only steer
_CONTROLLED = 4  # heads that get a random control
_LAST = 3  # joint cuts that time is kept for
_ROUND = 0.5  # of the time that is left, for one round at most


@dataclass
class Judge:
    """Verdicts on variants that have run, each by itself."""

    truth: Callable[[], GroundTruth]
    results: Callable[[Sequence[Variant]], Sequence[Result]]
    margin: float
    found: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    _bootstrap: Bootstrap | None = None
    _baseline: Samples | None = None

    def judge(self, variants: Iterable[Variant]) -> None:
        first = self.results([UNMODIFIED])[0]
        calibration = first.evaluation.thresholds.calibration
        if self._bootstrap is None:
            self._bootstrap = Bootstrap(self.truth(), _RESAMPLES)
        if self._baseline is None:
            self._baseline = self._bootstrap.samples(first.detections, calibration, per_class=False)
        for one in variants:
            if one.name in self.found or not one.digest:
                continue
            (result,) = self.results([one])
            samples = self._bootstrap.samples(result.detections, calibration, per_class=False)
            difference = samples.overall["AP"] - self._baseline.overall["AP"]
            test = held_against_chance(difference)
            outcome: Outcome = "undecided"
            if test is not None:
                low, high = test.change - test.half, test.change + test.half
                if high < -self.margin:
                    outcome = "costs"
                elif low > self.margin:
                    outcome = "gains"
                elif -self.margin < low and high < self.margin:
                    outcome = "free"
            self.found[one.name] = float(difference.value), outcome


class Study:
    """Chooses the rounds of one study, and notes them.

    Args:
        made: the ablation of each candidate, by name.
        shapes: of the checkpoint's tensors, for random controls.
        keep: called whenever something is to be noted.
    """

    def __init__(
        self,
        outline: Outline,
        budget: Budget,
        notes: Noted,
        made: Mapping[str, Ablation],
        shapes: Mapping[str, tuple[int, ...]],
        judge: Judge,
        keep: Callable[[], None],
        *,
        began: float,
        reserve: float = 0.0,
    ) -> None:
        self._outline = outline
        self._budget = budget
        self._notes = notes
        self._made = dict(made)
        self._shapes = shapes
        self._judge = judge
        self._keep = keep
        self._began = began - notes.spent
        self._reserve = reserve  # seconds for the report
        self._slow = 1.0  # how much longer a round took than was predicted
        self._done = 0  # rounds that an earlier call noted and this one has repeated
        self.evaluated: list[Ablation] = []

    def rounds(self) -> Evaluating:
        numbers = yield [UNMODIFIED]
        if self._finds_nothing(numbers):
            self._notes.stopped = "the unmodified model finds next to nothing"
            self._keep()
            return
        queue = [i for i, one in enumerate(self._outline.candidates) if one.depth == 0]
        while queue:
            chosen = self._chosen(queue)
            if not chosen:
                break
            yield from self._run([self._outline.candidates[i].cut.variant for i in chosen])
            for i in chosen:
                self._notes.parts[i].state = "cut"
            inner = [i for one in chosen for i in self._inside(one)]
            queue = [*inner, *(i for i in queue if i not in chosen)]
        self._mark_the_rest()
        yield from self._controls()
        yield from self._together()
        self._keep()

    def _finds_nothing(self, numbers: Mapping[str, Evaluation]) -> bool:
        ap = numbers[UNMODIFIED.digest].overall["AP"]
        return ap is None or ap < NEXT_TO_NOTHING

    def _run(self, names: Sequence[str], extra: Mapping[str, Ablation] | None = None) -> Evaluating:
        """One round, and what it tells; the first of them repeat what an earlier call noted."""
        self._made |= dict(extra or {})
        names = list(dict.fromkeys(names))
        if self._done >= len(self._notes.rounds):
            self._notes.rounds.append(names)
            self._keep()
        self._done += 1
        self.evaluated += [self._made[name] for name in names if not self._known(name)]
        began = monotonic()
        variants = [Variant.of(self._made[name]) for name in names]
        yield [UNMODIFIED, *variants]
        self._judge.judge(variants)
        took, thought = monotonic() - began, self._seconds(names)
        if thought > 0 and took > 0.5:
            self._slow = max(0.3, min(5.0, took / thought))
        self._notes.spent = monotonic() - self._began
        self._keep()

    def _known(self, name: str) -> bool:
        return any(one.name == name for one in self.evaluated)

    def _chosen(self, queue: Sequence[int]) -> list[int]:
        """As many of these as fit, the cheapest to run first; or those of a round that was chosen
        before."""
        if self._done < len(self._notes.rounds):
            before = set(self._notes.rounds[self._done])
            return [i for i in queue if self._outline.candidates[i].cut.variant in before]
        candidates = self._outline.candidates
        # Shares are measured: a budget in passes is to choose the same on every machine.
        timed = self._budget.passes is None
        order = sorted(
            queue, key=lambda i: (candidates[i].depth > 0, candidates[i].share if timed else 0, i)
        )
        chosen: list[int] = []
        for i in order:
            names = [candidates[j].cut.variant for j in (*chosen, i)]
            if not self._affords(names):
                self._notes.stopped = f"the budget of {self._budget}"
                break
            if chosen and not self._affords(names, part=_ROUND):
                break  # how long these take tells how much more there is time for
            chosen.append(i)
        return sorted(chosen)

    def _inside(self, number: int) -> list[int]:
        """What of a part is to be looked at next: nothing of a free one."""
        children = [i for i, one in enumerate(self._notes.parts) if one.parent == number]
        _, outcome = self._judge.found[self._notes.parts[number].variant]
        if outcome != "free":
            return children
        for i in self._all_inside(number):
            self._notes.parts[i].state = INSIDE_FREE
        return []

    def _all_inside(self, number: int) -> list[int]:
        children = [i for i, one in enumerate(self._notes.parts) if one.parent == number]
        return [j for i in children for j in (i, *self._all_inside(i))]

    def _mark_the_rest(self) -> None:
        for one in self._notes.parts:
            if one.state == "waiting":
                one.state = "not afforded"

    def _affords(self, names: Sequence[str], kept: int = _LAST, part: float = 1.0) -> bool:
        """Whether these fit into ``part`` of what is left of the budget, beside ``kept`` joint
        cuts; passes, which are known beforehand, need no parts."""
        if self._budget.passes is not None:
            used = 1 + len({name for group in self._notes.rounds for name in group})
            new = len(set(names))
            return self._notes.images * (used + new + kept) <= self._budget.passes
        left = (self._budget.seconds or 0.0) - (monotonic() - self._began) - self._reserve
        last = kept * self._notes.images * self._outline.seconds
        return self._slow * (self._seconds(names) + last) <= part * left

    def _seconds(self, names: Sequence[str]) -> float:
        wanted = set(names)
        chosen = [one for one in self._outline.candidates if one.cut.variant in wanted]
        return self._outline.cost(chosen, self._notes.images)

    def _controls(self) -> Evaluating:
        """Random cuts of the same size beside the heads that cost most and least."""
        heads = {
            one.variant: self._judge.found[one.variant][0]
            for one in self._notes.parts
            if one.head is not None and one.variant in self._judge.found
        }
        ranked = sorted(heads, key=lambda name: heads[name])
        half = _CONTROLLED // 2
        wanted = self._notes.controls or list(dict.fromkeys([*ranked[:half], *ranked[-half:]]))
        extra: dict[str, Ablation] = {}
        for name in wanted:
            with suppress(UserError):  # of whole tensors there is no other cut of the same size
                (control,) = random_controls(self._made[name], self._shapes, 1)
                extra[control.name] = control
        if extra and (self._done < len(self._notes.rounds) or self._affords(list(extra))):
            self._notes.controls = [name for name in wanted if f"{name}-control0" in extra]
            yield from self._run(list(extra), extra)

    def _together(self) -> Evaluating:
        """Everything that is free, at once; where that is not free, parts of it."""
        free = self._free()
        if len(free) < 2:
            return
        sizes = {TOGETHER: len(free)}
        yield from self._join(free, sizes)
        if self._judge.found.get(TOGETHER, (0.0, "free"))[1] == "free" or len(free) < 4:
            return
        fewer = {f"{share}-of-free-together": share for share in self._fewer(len(free))}
        yield from self._join(free, fewer)

    @staticmethod
    def _fewer(count: int) -> list[int]:
        return sorted({count * part // 4 for part in (1, 2, 3)} - {0, 1})

    def _join(self, free: Sequence[str], sizes: Mapping[str, int]) -> Evaluating:
        extra: dict[str, Ablation] = {}
        for name, size in sizes.items():
            members: list[str] = []
            union: Ablation | None = None
            for one in free:
                if len(members) == size:
                    break
                with suppress(UserError):  # two that say different things of one element
                    union = joined(union, self._made[one]) if union else self._made[one]
                    members.append(one)
            if union is not None and len(members) > 1:
                extra[name] = replace(union, name=name)
                self._notes.together[name] = members
        stored = self._done < len(self._notes.rounds)
        # That what is free is free together is verified whatever the budget says.
        if extra and (TOGETHER in extra or stored or self._affords(list(extra), kept=0)):
            yield from self._run(list(extra), extra)
        else:
            for name in extra:
                del self._notes.together[name]

    def _free(self) -> list[str]:
        """The variants of free parts, none inside of another; the least costly first."""
        free = {
            i
            for i, one in enumerate(self._notes.parts)
            if self._judge.found.get(one.variant, (0.0, None))[1] == "free"
        }
        outer = [self._notes.parts[i] for i in free if self._notes.parts[i].parent not in free]
        names = dict.fromkeys(one.variant for one in outer)
        return sorted(names, key=lambda name: -self._judge.found[name][0])
