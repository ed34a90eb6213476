"""Products of some pairs of rows against all products."""

import math

import torch

from detector.network.ops.sampled_products import products_at


def test_equals_the_places_of_the_whole_product() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(50, 12, generator=generator, dtype=torch.float64)
    right = torch.randn(30, 12, generator=generator, dtype=torch.float64)
    index = torch.randint(30, (50, 9), generator=generator, dtype=torch.int32)
    found = products_at(index, left, right)
    torch.testing.assert_close(found, (left @ right.T).gather(1, index.long()))
    again = products_at(index, left, right)
    assert found.equal(again)


def test_a_row_may_ask_more_often_than_there_are_rows() -> None:
    left, right = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    index = torch.tensor([[0, 0, 1, 2, 2, 0, 1], [2, 1, 0, 0, 0, 1, 2]], dtype=torch.int32)
    assert products_at(index, left, right).tolist() == [
        [1, 1, 3, 5, 5, 1, 3],
        [6, 4, 2, 2, 2, 4, 6],
    ]


def test_what_is_unknown_stays_where_it_is() -> None:
    left = torch.tensor([[1.0, math.nan], [1.0, 1.0]])
    right = torch.tensor([[1.0, 1.0], [math.inf, 0.0]])
    index = torch.tensor([[0, 0], [0, 1]], dtype=torch.int32)
    found = products_at(index, left, right)
    assert found.isnan().tolist() == [[True, True], [False, False]]
    assert found[1].tolist() == [2, math.inf]
