"""Both ways to sum bags in the rows that they read, against a loop."""

import pytest
import torch

from detector.network.ops.scattered_rows import _in_order, _sorted

WIDE = 5  # pixels of a row of the map that is read


@pytest.mark.parametrize("way", [_in_order, _sorted])
def test_every_row_is_the_sum_of_the_bags_that_read_it(way) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    upper = torch.randint(20, (40, 3), generator=generator, dtype=torch.int32)
    index = torch.cat((upper, upper + 1, upper + WIDE, upper + WIDE + 1), dim=1)
    weights = torch.rand(index.shape, generator=generator, dtype=torch.float64)
    bags = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    expected = torch.zeros(27, 2, dtype=torch.float64)
    for bag, rows, shares in zip(bags, index.tolist(), weights, strict=True):
        for row, share in zip(rows, shares, strict=True):
            expected[row] += share * bag
    found = way(27, index, weights, bags)
    torch.testing.assert_close(found, expected)
    assert way(27, index, weights, bags).equal(found)
