"""Seeds of a run, and of what is drawn for each of its batches."""

from typing import Annotated

import numpy as np
from pydantic import Field

Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every generator takes

_LIMIT = 2**64  # of torch's generators


def batch_seed(seed: int, epoch: int, batch: int, rank: int = 0) -> int:
    """The seed of what a process draws for a batch: a function of its place in the run alone.

    Small seeds are spread by multiplication, as in every run so far; where the product is beyond
    what a generator takes, NumPy's ``SeedSequence`` mixes the same four numbers.
    """
    position = (seed * 1_000_003 + epoch) * 1_000_003 + batch
    spread = position * 1_009 + rank
    if spread < _LIMIT:
        return spread
    mixed = np.random.SeedSequence((seed, epoch, batch, rank)).generate_state(1, np.uint64)
    return int(mixed[0])
