"""Which cuts come next: the top-level parts, then what is inside of those that matter or may.

A generator of rounds for the one engine (``scheduling.scheduler.rounds_of``). A part that is found
free is not looked into: what is inside of it is free together. When nothing more fits, all that is
free is cut at once; what was kept for that and not needed goes to further parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.verdict import Outcome, untold
from ablate_kit.studies.budget_plan import COARSE, Outline, in_turn
from ablate_kit.studies.joint import TOGETHER, control, control_name, fewer, of_all, union
from ablate_kit.studies.judge import Judge
from ablate_kit.studies.noted import CUT, INSIDE_FREE, NOT_AFFORDED, WAITING, Noted, NotedPart
from ablate_kit.studies.spending import WORTH, Spending
from ablate_kit.sweeps.scheduling.scheduler import Evaluating
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant

_CONTROLLED = 4  # heads that get a random control
_ZEROED = 3  # parts whose mean gets zero beside it
_ALIVE = 0.1  # share of the AP that a part must leave for zero beside its mean to tell anything


@dataclass(frozen=True)
class MadeCuts:
    """What a study can cut."""

    # Of each candidate, and of each that stands beside one, by name.
    ablations: Mapping[str, Ablation]
    # For parts whose cut is a mean, by its name, that of the same set to zero.
    zeros: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]  # of the checkpoint's tensors, for random controls


class Study:
    """Chooses the rounds of one study, and notes them.

    Args:
        keep: called whenever something is to be noted.
        clock: seconds that pass.
    """

    def __init__(
        self,
        outline: Outline,
        notes: Noted,
        cuts: MadeCuts,
        judge: Judge,
        spending: Spending,
        keep: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._candidates = outline.candidates
        self._budget = spending.budget
        self._notes = notes
        self._made = dict(cuts.ablations)
        self._zeros = cuts.zeros
        self._shapes = cuts.shapes
        self._judge = judge
        self._keep = keep
        self._clock = clock
        self._spending = spending
        self._of_parts = frozenset(one.cut.variant for one in outline.candidates)
        self._baseline = 0.0  # AP of the unmodified model
        self._verified: set[str] = set()  # what was free when all of it was last cut at once
        self.evaluated: list[Ablation] = []

    def rounds(self) -> Evaluating:
        numbers = yield [UNMODIFIED]
        ap = numbers[UNMODIFIED.digest].overall["AP"]
        self._baseline = ap or 0.0
        if why := untold(ap, self._judge.margin):
            self._notes.stopped = f"the unmodified model {why}"
            self._keep()
            return
        for part in self._notes.parts:
            part.state = WAITING
        for names in list(self._notes.rounds):  # of an earlier call
            yield from self._run(names, noted=True)
        while self._notes.ended != str(self._budget) and (names := self._next()):
            self._notes.rounds.append(names)
            self._keep()
            yield from self._run(names)
        self._mark_the_rest()
        self._keep()

    def _run(self, names: Sequence[str], *, noted: bool = False) -> Evaluating:
        """One round, and what it tells; how long one took that an earlier call began tells
        nothing."""
        began = self._clock()
        known = {one.name for one in self.evaluated}
        variants = [Variant.of(self._ablation(name)) for name in names]
        self.evaluated += [self._made[name] for name in names if name not in known]
        self._spending.reported = len(self.evaluated)
        if any(name.startswith(TOGETHER) for name in names):
            self._verified = set(self._free())
        yield [UNMODIFIED, *variants]
        ran = self._clock()
        self._judge.judge(variants)
        self._spending.judged(len(self._judge.found), self._clock() - ran)
        for i, part in enumerate(self._notes.parts):
            if part.variant in names:
                part.state = CUT
                if self._outcome(part) == "free":
                    self._set_inside(i, INSIDE_FREE)
        if not noted:
            self._spending.ran(names, self._clock() - began)
            self._notes.spent = self._spending.spent
            self._keep()

    def _ablation(self, name: str) -> Ablation:
        """By the name that a round has it under."""
        if name not in self._made:
            members = self._notes.together.get(name, [])
            found, _ = union(name, members, self._made, len(members))
            for one in self._notes.controls:
                if control_name(one) == name:
                    found = control(self._made[one], self._shapes)
            if found is None:
                raise UserError(
                    f'the study notes a cut "{name}" that these parts do not have; choose another '
                    "folder"
                )
            self._made[name] = found
        return self._made[name]

    def _next(self) -> list[str]:
        """The variants of the next round; none where nothing that is left can be afforded."""
        return (
            self._parts(COARSE)
            or self._parts(beside=self._zeros_beside())
            or self._controls()
            or self._together()
        )

    def _parts(self, levels: int | None = None, beside: Sequence[str] = ()) -> list[str]:
        """As many as fit, in their turn; a cheaper one where a dear one does not. ``beside``: what
        runs with them in any case."""
        waiting = [
            number
            for number, one in enumerate(self._notes.parts)
            if one.state == WAITING
            and (one.parent is None or self._notes.parts[one.parent].state == CUT)
            and (levels is None or one.depth < levels)
        ]
        timed = self._budget.passes is None
        chosen = list(beside)
        part = self._spending.part_of_a_round()
        passes = 0.0
        for i in in_turn(self._candidates, waiting, timed=timed):
            names = list(dict.fromkeys([*chosen, self._notes.parts[i].variant]))
            if self._affords(names, part if passes > WORTH else 1.0):
                chosen = names
                passes += self._spending.share(names[-1:])
        order = {one.variant: i for i, one in reversed(list(enumerate(self._notes.parts)))}
        return sorted(chosen, key=lambda name: order.get(name, len(order)))

    def _zeros_beside(self) -> list[str]:
        """Zero for those parts whose mean costs most and leaves something of the detector, none of
        them inside of another: that would say the same again."""
        if self._notes.zeros:
            return []
        found = {
            one.variant: self._judge.found[one.variant][0]
            for one in self._notes.parts
            if one.variant in self._zeros and self._outcome(one) == "costs"
        }
        enough = -(1 - _ALIVE) * self._baseline
        ranked = sorted(found, key=lambda name: (found[name] < enough, found[name]))
        apart: list[str] = []
        for name in ranked:
            if not any(self._nested(name, other) for other in apart):
                apart.append(name)
        chosen: list[str] = []
        for name in apart[:_ZEROED]:
            zero = self._zeros[name]
            self._spending.restarts(zero, [name])
            if self._affords([*chosen, zero]) and self._spending.is_little([*chosen, zero]):
                chosen.append(zero)
                self._notes.zeros[zero] = name
        return chosen

    def _nested(self, one: str, other: str) -> bool:
        """Whether what one of two variants cuts lies inside of what the other does."""
        return one in self._around(other) or other in self._around(one)

    def _around(self, name: str) -> set[str]:
        found = set()
        for part in self._notes.parts:
            inner = part
            while part.variant == name and inner.parent is not None:
                inner = self._notes.parts[inner.parent]
                found.add(inner.variant)
        return found

    def _controls(self) -> list[str]:
        """Random cuts of the same size beside the heads that cost most and least."""
        if self._notes.controls:
            return []
        heads = {
            one.variant: self._judge.found[one.variant][0]
            for one in self._notes.parts
            if one.head is not None and one.variant in self._judge.found
        }
        ranked = sorted(heads, key=lambda name: heads[name])
        half = _CONTROLLED // 2
        chosen: list[str] = []
        for name in dict.fromkeys([*ranked[:half], *ranked[-half:]]):
            extra = control_name(name)
            self._spending.restarts(extra, [name])
            if control(self._made[name], self._shapes) and self._affords([*chosen, extra]):
                chosen.append(extra)
                self._notes.controls.append(name)
        return chosen

    def _together(self) -> list[str]:
        """Everything that is free, at once; where that is not free, parts of it."""
        free = self._free()
        before = of_all(self._notes.together)
        name = TOGETHER if not before else f"{TOGETHER}-{len(before) + 1}"
        whole, members = union(name, free, self._made, len(free))
        if whole is None:
            return []
        if set(free) != self._verified:
            # That what is free is free together is verified whatever the budget says.
            self._note_joint(whole, members)
            return [name]
        count = len(self._notes.together[before[-1]])
        if self._judge.found[before[-1]][1] == "free" or count < 4:
            return []
        chosen: list[str] = []
        number = f"-{len(before)}" if len(before) > 1 else ""
        for size in fewer(count):
            some, members = union(f"{size}-of-free-together{number}", free, self._made, size)
            if some is None or some.name in self._notes.together:
                continue
            self._spending.restarts(some.name, members)
            if self._spending.affords([*chosen, some.name]):
                chosen.append(some.name)
                self._note_joint(some, members)
        return chosen

    def _note_joint(self, whole: Ablation, members: Sequence[str]) -> None:
        self._made[whole.name] = whole
        self._notes.together[whole.name] = list(members)
        self._spending.restarts(whole.name, members)

    def _free(self) -> list[str]:
        """The variants of free parts, none inside of another; the least costly first."""
        free = {i for i, one in enumerate(self._notes.parts) if self._outcome(one) == "free"}
        outer = [self._notes.parts[i] for i in free if self._notes.parts[i].parent not in free]
        names = dict.fromkeys(one.variant for one in outer)
        return sorted(names, key=lambda name: (-self._judge.found[name][0], name))

    def _outcome(self, part: NotedPart) -> Outcome | None:
        return self._judge.found.get(part.variant, (0.0, None))[1]

    def _set_inside(self, number: int, state: str) -> None:
        for i, one in enumerate(self._notes.parts):
            if one.parent == number:
                one.state = state
                self._set_inside(i, state)

    def _affords(self, names: Sequence[str], part: float = 1.0) -> bool:
        """Whether these fit into ``part`` of what is left, beside random controls and the joint
        cuts that are to be made of what is free then."""
        return self._spending.affords(names, self._last(names), part)

    def _last(self, names: Sequence[str]) -> list[float]:
        """Shares of the controls, and of the joint cuts that follow if these are found free."""
        free = self._free()
        parts = [name for name in names if name in self._of_parts]
        count = 1 if len(free) < 4 or set(free) == self._verified else 2
        if len(free) + len(parts) < 2:
            count = 0
        return [*self._last_controls(names), *[self._spending.share([*free, *parts])] * count]

    def _last_controls(self, names: Sequence[str]) -> list[float]:
        """Shares of the random controls that follow; none where they are what is asked for."""
        cut = {one.variant for one in self._notes.parts if one.head is not None
               and (one.state == CUT or one.variant in names)}  # fmt: skip
        if self._notes.controls or any(name == control_name(one) for one in cut for name in names):
            return []
        return [self._spending.share([name]) for name in sorted(cut)[:_CONTROLLED]]

    def _mark_the_rest(self) -> None:
        left = [one for one in self._notes.parts if one.state == WAITING]
        for one in left:
            one.state = NOT_AFFORDED
        if self._notes.ended == str(self._budget):
            return  # as it was: nothing was measured anew
        self._notes.ended, self._notes.needed = str(self._budget), ""
        self._notes.stopped = ""
        if not left:
            return
        self._notes.stopped = f"the budget of {self._budget}"
        names = list(dict.fromkeys(one.variant for one in left))
        self._notes.needed = str(self._spending.needed(names, self._beside()).rounded_up())

    def _beside(self) -> list[float]:
        """Shares of the random controls and zeros that are still to come, if all is cut."""
        heads = {one.variant for one in self._notes.parts if one.head is not None}
        controls = min(_CONTROLLED, len(heads)) - len(self._notes.controls)
        zeros = min(_ZEROED, len(self._zeros)) - len(self._notes.zeros)
        share = self._spending.share
        return [*[share(heads)] * controls, *[share(self._zeros)] * zeros]
