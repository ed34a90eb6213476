"""Rules that decide from round to round what to cut next."""

from collections.abc import Callable, Mapping, Sequence

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.greedy import HeadsGreedy, Step
from ablate_kit.ablations.null import matched
from ablate_kit.ablations.rule import Source
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.sweeps.recipe import SweepRecipe

Evaluate = Callable[[Sequence[Ablation]], Mapping[str, Evaluation]]
"""From ablations to their numbers, by digest; what was evaluated before is not run again."""

Search = tuple[HeadsGreedy, list[Step]]


def run_rounds(recipe: SweepRecipe, source: Source, evaluate: Evaluate) -> list[Search]:
    """Every greedy search of a recipe, from its first round to its last.

    The searches are independent of each other. All rules are looked at before any is run.
    """
    rules = [rule for rule in recipe.ablations if isinstance(rule, HeadsGreedy)]
    searches = [(rule, rule.rounds(source)) for rule in rules]
    found = []
    for rule, rounds in searches:
        tried = next(rounds)
        while True:
            numbers = evaluate(tried)
            values = {one.digest: numbers[one.digest].overall.get(rule.metric) for one in tried}
            try:
                tried = rounds.send(values)
            except StopIteration as end:
                found.append((rule, list(end.value)))
                break
    return found


def greedy_sizes(recipe: SweepRecipe, source: Source) -> list[tuple[int, int]]:
    """Rounds and variants of each greedy search of a recipe."""
    return [rule.size(source) for rule in recipe.ablations if isinstance(rule, HeadsGreedy)]


def curves(searches: Sequence[Search], source: Source) -> list[Ablation]:
    """What each search removed, step by step, each step with its random cuts of the same size."""
    shapes = {name: info.shape for name, info in source.checkpoint.tensors.items()}
    return [
        ablation
        for rule, steps in searches
        for step in steps
        for ablation in (step.ablation, *matched(step.ablation, shapes, rule.null_cuts))
    ]
