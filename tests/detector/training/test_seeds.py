"""Seeds of batches: those of earlier runs stay, and every seed that a recipe can hold works."""

from itertools import product
from pathlib import Path

import pytest
import torch

from detector.data.dataset import limit
from detector.data.shapes import Shapes
from detector.errors import UserError
from detector.training.detection_task import detection_trainer
from detector.training.recipes.train_recipe import parse_recipe
from detector.training.seeds import batch_seed

SMALL = {
    "preset": "tiny", "image_size": 64, "widths": [16, 32, 16, 16], "depths": [1, 1, 1, 1],
    "d_model": 32, "queries": 8, "decoder_layers": 1, "denoising": "contrastive",
}  # fmt: skip


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
    values = {
        "model": SMALL, "data": {"kind": "shapes"},
        "training": {"epochs": 1, "batch_size": 2, "seed": seed},
    }  # fmt: skip
    data = limit(Shapes(100, size=64), 2)

    class Silent:
        def start(self, *_: int) -> None: ...
        def batch(self, _: object) -> None: ...
        def finish(self, _: object) -> None: ...

    assert detection_trainer(parse_recipe(values, "test"), data, tmp_path).run(Silent()).is_file()


def test_a_seed_beyond_all_generators_is_refused() -> None:
    values = {"model": SMALL, "data": {"kind": "shapes"}, "training": {"seed": 2**63}}
    with pytest.raises(UserError, match=r"training\.seed: input should be less than"):
        parse_recipe(values, "test")
