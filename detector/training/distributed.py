"""The processes that train one model together, as ``torchrun`` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.errors import UserError

# The first process evaluates alone while the others wait.
TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True)
class DistributedContext:
    """This process among those of the run; a run without ``torchrun`` has one."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of a tensor without gradient."""
        if self.world_size == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.world_size

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    def broadcast(self, values: list[object]) -> list[object]:
        """The first process' list of plain values, in every process."""
        if self.world_size > 1:
            dist.broadcast_object_list(values)
        return values


SINGLE_PROCESS = DistributedContext()


def under_torchrun() -> bool:
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def refuse_several(command: str) -> None:
    """For what trains in one process: several would write into one folder."""
    if under_torchrun():
        raise UserError(f"{command} runs in one process; start it without torchrun")


def local_device(device: str) -> str:
    """The device of this process: ``cuda`` becomes its own GPU under ``torchrun``."""
    if not under_torchrun():
        return device
    if device.startswith("cuda:"):
        raise UserError(f'several processes cannot share {device}; give --device cuda, or "cpu"')
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


@contextmanager
def init_process_group(device: str) -> Iterator[DistributedContext]:
    """This process in its group, on its ``local_device``."""
    if not under_torchrun():
        yield SINGLE_PROCESS
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT)
    try:
        yield DistributedContext(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def data_parallel(
    model: nn.Module, distributed: DistributedContext
) -> nn.Module | DistributedDataParallel:
    """What is called for a forward pass; its parameters are the model's."""
    if distributed.world_size == 1:
        return model
    # Which parameters take part depends on the images: without objects, none of denoising.
    return DistributedDataParallel(model, find_unused_parameters=True)
