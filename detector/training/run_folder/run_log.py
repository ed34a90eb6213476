"""What a run notes as it goes: log lines, skipped steps with their images, and why it stopped."""

from collections.abc import Mapping

from detector.data.training_set import EpochSampler
from detector.errors import UserError
from detector.training.distributed import DistributedContext
from detector.training.run_folder.run_files import RunFiles
from detector.training.schedule import Schedule
from detector.training.task import Task


class RunLog:
    """Of several processes the first one writes. Epochs count from 0 here, and from 1 in files."""

    def __init__(
        self,
        files: RunFiles,
        task: Task,
        sampler: EpochSampler,
        schedule: Schedule,
        distributed: DistributedContext,
    ) -> None:
        self._files, self._task, self._sampler = files, task, sampler
        self._schedule, self._writes = schedule, distributed.is_main

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        if self._writes:
            self._files.add({"epoch": epoch + 1} | dict(values))

    def add_skipped(self, epoch: int, step: int) -> None:
        if self._writes:
            ids = self._image_ids(epoch, step)
            self._files.add_skipped({"step": step, "epoch": epoch + 1, "image_ids": ids})

    def diverged(self, epoch: int, what: str) -> UserError:
        return UserError(
            f"{what} in epoch {epoch + 1}: losses or gradients are not finite. Try a lower "
            f"training.lr (it is {self._schedule.options.lr}); the images are listed in "
            f"{self._files.skipped}"
        )

    def _image_ids(self, epoch: int, step: int) -> list[int]:
        """Of a step's images, of all processes."""
        size, batches = self._schedule.options.batch_size, self._schedule.batches(step)
        order = self._sampler.order(epoch)[batches.start * size : batches.stop * size]
        return [self._task.image_id(index) for index in order]
