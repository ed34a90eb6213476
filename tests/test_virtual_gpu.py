"""The GPU that is not there refuses what a GPU refuses."""

import numpy as np
import pytest
import torch

from tests.virtual_gpu import virtual_gpu


def test_tensors_remember_where_they_would_be() -> None:
    with virtual_gpu():
        here = torch.ones(3)
        there = here.to("cuda")
        assert (here.is_cuda, there.is_cuda) == (False, True)
        made = [
            there * 2 + 1, there[1:], there.view(3, 1), torch.zeros_like(there), there.double(),
            torch.arange(3, device=there.device), here.to(there), there.new_zeros(2), there.sum(),
        ]  # fmt: skip
        assert {str(one.device) for one in made} == {"cuda:0"}
        assert not any(one.is_cuda for one in (there.cpu(), here * 2, torch.zeros(3)))
        assert there.tolist() == [1, 1, 1]
    assert not torch.cuda.is_available()
    assert not torch.ones(1).is_cuda


def test_a_gpu_of_apple_has_no_float64() -> None:
    with virtual_gpu("mps"):
        here = torch.ones(3)
        there = here.to("mps")
        assert (there.is_mps, there.is_cuda, str(there.device)) == (True, False, "mps:0")
        assert not torch.cuda.is_available()
        for wrong in (lambda: there.double(), lambda: there.to(torch.float64),
                      lambda: torch.zeros(1, dtype=torch.float64, device="mps")):  # fmt: skip
            with pytest.raises(TypeError, match="float64"):
                wrong()
        with pytest.raises(RuntimeError, match="to be on the same device"):
            _ = here + there


def test_what_a_gpu_refuses_is_refused() -> None:
    with virtual_gpu():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        for wrong in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: torch.where(there > 0, here, there),
            lambda: torch.nn.Linear(3, 2)(there),
            lambda: there.index_add_(0, torch.tensor([0]), there[:1]),
        ):
            with pytest.raises(RuntimeError, match="to be on the same device"):
                wrong()
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            np.asarray(there)
        with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
            torch.rand(3, device="cuda", generator=torch.Generator())
        assert (there + torch.tensor(1.0)).is_cuda  # a number may be on the CPU, and indices
        assert there[torch.tensor([0])].is_cuda


def test_a_step_of_training_stays_where_it_is() -> None:
    with virtual_gpu():
        layer = torch.nn.Linear(3, 2).to("cuda")
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        before = layer.weight.detach().clone()
        (layer(torch.ones(1, 3, device="cuda")) ** 2).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.is_cuda
        optimizer.step()
        assert not torch.equal(before, layer.weight)


def test_waits_for_the_device_are_told() -> None:
    with virtual_gpu():
        there = torch.ones(3, device="cuda")
        torch.cuda.set_sync_debug_mode("warn")
        there.sum() * 2
        for wait in (there.cpu, there.sum().item, there.nonzero, lambda: there[there > 0]):
            with pytest.warns(UserWarning, match="called a synchronizing"):
                wait()
        torch.ones(3).to("cuda", non_blocking=True)  # a warning would be an error
