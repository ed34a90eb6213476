"""The lines of a recipe as rounds: what depends on no number first, then searches and rankings."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.factors import SIZE
from ablate_kit.ablations.kinds.greedy_heads import HeadsGreedy, Removal, Values
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.random_controls import elements_cut, random_controls
from ablate_kit.errors import UserError
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.headline import Key
from ablate_kit.metrics.result import is_control
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.scheduling.scheduler import Evaluating
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant

Search = tuple[HeadsGreedy, list[Removal]]


@dataclass
class RecipeRounds:
    """Asks for what a recipe's lines make, and notes what its searches and rankings chose.

    Attributes:
        searches: the lines that searched, with their steps.
        removed: by searches and rankings, step by step, with controls.
    """

    recipe: SweepRecipe
    source: KindContext
    searches: list[Search] = field(default_factory=list)
    removed: list[Ablation] = field(default_factory=list)

    def rounds(
        self, variants: Sequence[Variant], ablations: Sequence[Ablation], *, first: bool
    ) -> Evaluating:
        """All of them.

        Args:
            variants: that are known before any is evaluated; ``ablations``: those of them that are.
            first: the unmodified model alone goes first.
        """
        begun = [(line, line.rounds(self.source)) for line in self.recipe.searches]
        if first:
            yield [UNMODIFIED]
        numbers = yield [UNMODIFIED, *variants]
        self._rank(ablations, numbers)
        for line, rounds in begun:
            self.searches.append((line, (yield from _searched(line, rounds))))
        for line, steps in self.searches:
            for step in steps:
                self._remove(step.ablation, line.null_cuts)
        if self.removed:
            yield [Variant.of(one) for one in self.removed]

    def _rank(self, ablations: Sequence[Ablation], numbers: Mapping[str, Evaluation]) -> None:
        made = {one.name: one for one in ablations if not is_control(one.factors)}
        for ranking in self.recipe.rankings:
            for cut in ranking.combine(made, _values(numbers, made.values(), ranking.metric)):
                self._remove(cut, ranking.null_cuts)

    def _remove(self, cut: Ablation, controls: int) -> None:
        """With how much it cuts, for curves over that. No controls where there is no other cut of
        the same size: after hours that is no reason to stop."""
        shapes = self.source.checkpoint.shapes
        size = sum(elements_cut(cut, shapes).values())
        self.removed.append(replace(cut, factors={**cut.factors, SIZE: size}))
        with suppress(UserError):
            self.removed += random_controls(cut, shapes, controls)


def _searched(
    line: HeadsGreedy, rounds: Generator[list[Ablation], Values, list[Removal]]
) -> Generator[Sequence[Variant], Mapping[str, Evaluation], list[Removal]]:
    tried = next(rounds)
    while True:
        numbers = yield [Variant.of(one) for one in tried]
        try:
            tried = rounds.send(_values(numbers, tried, line.metric))
        except StopIteration as end:
            return list(end.value)


def _values(
    numbers: Mapping[str, Evaluation], ablations: Iterable[Ablation], metric: Key
) -> dict[str, float | None]:
    return {one.digest: numbers[one.digest].overall.get(metric) for one in ablations}
