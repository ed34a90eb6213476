"""Random cuts of the same size: what an ablation's effect is to be read against.

They are controls, not ablations: no report counts them among those, or tests them.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit, Random, Removed
from ablate_kit.errors import UserError


def random_controls(
    ablation: Ablation, shapes: Mapping[str, tuple[int, ...]], draws: int
) -> list[Ablation]:
    """So many times: in every tensor of ``ablation``, as many random elements as it cuts there
    become zero. Rows that are taken away and columns whose input is resampled count as cut; a bias
    that takes up a mean does not.

    The seed is of the digest of what the ablation cuts: those of two ablations are drawn
    independently, also where they cut as many elements of the same tensors. Means do not count:
    their last bits are of the machine, by how many threads it adds.

    Raises ``UserError`` for an ablation of whole tensors, of which there is only one of its size.
    """
    counts = elements_cut(ablation, shapes)
    if draws and all(count == math.prod(shapes[name]) for name, count in counts.items()):
        raise UserError(
            f"{ablation.name} changes whole tensors: a random cut of the same size is the same "
            "cut; leave out null_cuts"
        )
    cuts = tuple(edit for edit in ablation.edits if edit.values is None)
    seed = int(replace(ablation, edits=cuts).digest[:12], 16)
    return [
        Ablation(
            f"{ablation.name}-control{draw}",
            "control",
            tuple(Edit(name, Random(count, seed, draw)) for name, count in counts.items()),
            factors={"control_of": ablation.name, "draw": draw},
        )
        for draw in range(draws)
    ]


def elements_cut(ablation: Ablation, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """How many elements of each tensor an ablation cuts; rows and columns count as above."""
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
    return {name: min(count, math.prod(shapes[name])) for name, count in counts.items()}
