"""Seeds of batches: those of earlier runs stay, and every seed that a recipe can hold works."""

from itertools import product
from pathlib import Path

import pytest
import torch

from detector.errors import UserError
from detector.training.seeds import batch_seed
from tests.small_runs import SMALL, Silent, recipe, trainer


def test_ordinary_seeds_draw_what_they_always_drew() -> None:
    """((seed * 1000003 + epoch) * 1000003 + batch) * 1009 + rank."""
    assert batch_seed(42, 3, 5, 1) == 42378257295395529
    assert batch_seed(0, 0, 0) == 0


def test_any_seed_is_one_that_a_generator_takes_and_no_two_places_share_one() -> None:
    seeds = (42, 18_282, 18_283, 20_240_501, 2**63 - 1)
    places = list(product(seeds, (0, 99), (0, 1, 4000), (0, 7)))
    found = [batch_seed(*place) for place in places]
    assert len(set(found)) == len(places)
    for seed in found:
        torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", [18_283, 2**63 - 1])
def test_a_run_with_a_large_seed_trains(tmp_path: Path, seed: int) -> None:
    model = SMALL | {"denoising": "contrastive"}
    assert trainer(tmp_path, 2, model, epochs=1, seed=seed).run(Silent()).is_file()


def test_a_seed_beyond_all_generators_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.seed: input should be less than"):
        recipe(seed=2**63)
