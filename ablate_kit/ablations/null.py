"""Random cuts of the same size: what an ablation's effect is to be read against."""

import math
from collections.abc import Mapping

from ablate_kit.ablations.ablation import Ablation, Blocks, Edit, Random, Removed
from ablate_kit.errors import UserError


def matched(
    ablation: Ablation, shapes: Mapping[str, tuple[int, ...]], seeds: int
) -> list[Ablation]:
    """For each of the seeds 0, 1, ...: in every tensor of ``ablation``, as many random elements as
    it cuts there become zero. Rows that are taken away and columns whose input is resampled count
    as cut; a bias that takes up a mean does not.

    Raises ``UserError`` for an ablation of whole tensors, of which there is only one of its size.
    """
    counts: dict[str, int] = {}
    for edit in ablation.edits:
        if edit.values is None:  # what holds a mean is added, not taken away
            counts[edit.tensor] = counts.get(edit.tensor, 0) + edit.region.count(
                shapes[edit.tensor]
            )
    for one in ablation.live:
        width = len(one.rows) if isinstance(one, Removed) else sum(b - a for a, b in one.ranges)
        axis = 0 if isinstance(one, Removed) else 1
        count = Blocks(axis, ((0, width),)).count(shapes[one.tensor])
        counts[one.tensor] = counts.get(one.tensor, 0) + count
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
