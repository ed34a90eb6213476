"""Random cuts of the same size: what an ablation's effect is to be read against."""

import math
from collections.abc import Mapping

from ablate_kit.ablations.ablation import Ablation, Edit, Random
from ablate_kit.errors import UserError


def matched(
    ablation: Ablation, shapes: Mapping[str, tuple[int, ...]], seeds: int
) -> list[Ablation]:
    """For each of the seeds 0, 1, ...: in every tensor of ``ablation``, as many random elements as
    it changes there become zero.

    Raises ``UserError`` for an ablation of whole tensors, of which there is only one of its size.
    """
    counts: dict[str, int] = {}
    for edit in ablation.edits:
        counts[edit.tensor] = counts.get(edit.tensor, 0) + edit.region.count(shapes[edit.tensor])
    sizes = {name: math.prod(shapes[name]) for name in counts}
    if seeds and all(counts[name] >= sizes[name] for name in counts):
        raise UserError(
            f"{ablation.name} changes whole tensors: a random cut of the same size is the same "
            "cut; leave out null_cuts"
        )
    return [
        Ablation(
            f"{ablation.name}-null{seed}",
            "null",
            tuple(
                Edit(name, Random(min(count, sizes[name]), seed, 0))
                for name, count in counts.items()
            ),
        )
        for seed in range(seeds)
    ]
