"""Tensors made of host values: uploaded once, and usable wherever they are needed later."""

import torch

from detector.network.ops.host_values import constant, uploaded


def test_a_constant_is_made_once_and_takes_part_in_gradients_later() -> None:
    place = ((2, 3), (4, 5)), torch.float32, torch.device("cpu")
    with torch.inference_mode():
        first = constant(*place)
    assert not first.is_inference()
    assert first.tolist() == [[2, 3], [4, 5]]
    assert constant(*place) is first
    assert constant(place[0], torch.int32, place[2]).dtype == torch.int32
    x = torch.ones(2, 2, requires_grad=True)
    (x * first).sum().backward()
    assert torch.equal(x.grad, first)


def test_what_differs_from_call_to_call_is_uploaded_each_time() -> None:
    cpu = torch.device("cpu")
    assert uploaded([True, False], torch.bool, cpu).tolist() == [True, False]
    assert uploaded(torch.tensor([1, 2]), torch.long, cpu).dtype == torch.long
