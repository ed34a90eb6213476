"""The batches of a run, and each process' share of them."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from detector.data.training_set import DistributedBatchSampler, EpochSampler, loader
from detector.errors import UserError
from detector.training.distributed import DistributedContext
from detector.training.task import Task


def batch_loader(
    task: Task, sampler: EpochSampler, distributed: DistributedContext, device: torch.device
) -> DataLoader[Any]:
    """Raises ``UserError`` where the batches cannot be shared, or none can be filled."""
    options, count = task.recipe.training, distributed.world_size
    size = options.batch_size
    if size % count:
        raise UserError(f"training.batch_size is {size}; expected a multiple of {count} processes")
    share = DistributedBatchSampler(sampler, size, distributed.rank, count)
    return loader(
        task.items,
        share if count > 1 else sampler,
        batch_size=size // count,
        workers=options.workers,
        drop_last=count > 1 or len(task.items) >= size,
        pin_memory=device.type == "cuda",
        collate=task.collate,
    )
