"""Tensors of several types come through one transfer as they are."""

import torch

from detector.fetch import fetched, packed, unpacked


def test_bytes_come_back_as_the_tensors_that_they_were() -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(3, 5, generator=draw).T,
        torch.tensor(True),
        torch.arange(10.0)[::2][1:2],  # contiguous, and yet with a stride
        torch.randn(7, generator=draw).bfloat16(),
        torch.empty(0, 4, dtype=torch.float64),
        torch.arange(3),
        torch.randn(2, 2, generator=draw, dtype=torch.float64),
    ]
    for one, other in zip(unpacked(packed(tensors), tensors), tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert fetched(tensors)[0] is tensors[0]  # nothing is copied that is here
