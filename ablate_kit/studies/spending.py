"""What is left of a study's budget, in passes or in measured seconds, and what fits into it."""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from ablate_kit.studies.budget import Budget
from ablate_kit.studies.budget_plan import Outline
from ablate_kit.studies.joint import TOGETHER
from ablate_kit.studies.noted import Noted
from ablate_kit.studies.pace import Load, Pace

#: Passes of cuts that a round has at least, for the unmodified model's that it begins with.
WORTH = 3.0
_BESIDE = 0.1  # of what is left, at most, for what runs beside others
_ROUND = 0.5  # of what is left, for one round at most: its verdicts are to choose the next one
_ROUNDS = 6  # that what is left is cut in, at most: halves of it, controls, all that is free
_LITTLE = 0.15  # of a budget: when no more is left, one round takes it all


class Spending:
    """The budget of one study.

    Args:
        report: seconds of the report on so many variants, where judging one takes so long.
        began: when this call did; what an earlier one has spent is in ``notes``.
        clock: seconds that pass.

    Attributes:
        reported: how many variants the report will be about, of those that have run.
    """

    def __init__(
        self,
        outline: Outline,
        budget: Budget,
        notes: Noted,
        report: Callable[[int, float | None], float],
        began: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.budget = budget
        self._outline = outline
        self._notes = notes
        self._report = report
        self._began = began - notes.spent
        self._clock = clock
        self._pace = Pace()
        self._shares = {one.cut.variant: one.share for one in reversed(outline.candidates)}
        self._judged = 0
        self._judging = 0.0  # seconds
        self.reported = 0

    @property
    def spent(self) -> float:
        """Seconds."""
        return self._clock() - self._began

    def restarts(self, name: str, members: Iterable[str]) -> None:
        """A new variant begins in a pass where the first of these does."""
        self._shares[name] = self.share(members)

    def share(self, names: Iterable[str]) -> float:
        """Of a pass that a joint cut of these takes: from where the first of them restarts."""
        return max(map(self._share_of, names), default=0.0)

    def ran(self, names: Iterable[str], seconds: float) -> None:
        """Learns from a round of these."""
        self._pace.learn(self._load(names), seconds)

    def judged(self, variants: int, seconds: float) -> None:
        """Learns how long judging takes; ``variants``: all that have been."""
        self._judged = variants
        self._judging += seconds

    def part_of_a_round(self) -> float:
        """The share of what is left that one round may take."""
        return _ROUND if self._left() > _LITTLE * (self.budget.seconds or 0.0) else 1.0

    def affords(self, names: Sequence[str], last: Sequence[float] = (), part: float = 1.0) -> bool:
        """Whether these fit into ``part`` of what is left, beside cuts of the shares of ``last``
        that are to follow."""
        if self.budget.passes is not None:
            asked = (self._passed() + len(set(names)) + len(last)) * self._notes.images
            return asked <= self.budget.passes  # known beforehand: no parts
        left = self._left(len(names) + len(last))
        asked_for = self._pace.seconds(self._load(names))
        if last:
            asked_for += self._pace.seconds(self._load_of(last))
        return asked_for <= part * left

    def is_little(self, names: Sequence[str]) -> bool:
        """Whether these take few of what is left, run with others."""
        if self.budget.passes is not None:
            left = self.budget.passes - self._passed() * self._notes.images
            return len(names) * self._notes.images <= _BESIDE * left
        own = self._outline.load([self.share([x]) for x in names], self._notes.images, alone=False)
        return self._pace.seconds(own) <= _BESIDE * self._left(len(names))

    def needed(self, names: Sequence[str], beside: Sequence[float]) -> Budget:
        """The budget that these would have needed, too, with cuts of the shares of ``beside``, and
        two of all that is free at once."""
        last = [*beside, *[self.share([TOGETHER])] * 2]
        if self.budget.passes is not None:
            return Budget(passes=(self._passed() + len(names) + len(last)) * self._notes.images)
        # Each round begins with the unmodified model; what ran is judged again by the next call.
        rounds = self._pace.seconds(self._load_of([])) * _ROUNDS
        more = self._pace.seconds(self._load_of([*map(self._share_of, names), *last]))
        left = self._left(len(names) + len(last))
        spent = (self.budget.seconds or 0.0) - left + self._judging
        return Budget(seconds=spent + rounds + more)

    def _left(self, more: int = 0) -> float:
        """Seconds, beside the report on what has run and so many more."""
        each = self._judging / self._judged if self._judged else None
        report = self._report(self.reported + more, each)
        return (self.budget.seconds or 0.0) - self.spent - report

    def _passed(self) -> int:
        """Passes over the images that are spent."""
        return 1 + len({name for group in self._notes.rounds for name in group})

    def _share_of(self, name: str) -> float:
        return self._shares.get(name, 1.0)

    def _load(self, names: Iterable[str]) -> Load:
        return self._load_of([*map(self._share_of, dict.fromkeys(names))])

    def _load_of(self, shares: Sequence[float]) -> Load:
        return self._outline.load(shares, self._notes.images)
