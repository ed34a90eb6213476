"""The options that say how a sweep runs: memory, recordings and threads."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Option

from ablate_kit.cli.common_options import NoReplay
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from ablate_kit.sweeps.backends.worker import RunOptions


_MEMORY = 2048


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a sweep runs; of these, ``--fuse`` alone changes a bit of the results."""

    PANEL: ClassVar[str] = "Speed and memory"

    memory: Annotated[
        int, Option(help="MiB for recorded outputs; with less the sweep runs in more parts.", min=0)
    ] = _MEMORY
    no_replay: NoReplay = False
    fuse: Annotated[
        bool, Option("--fuse", help="Run heads and channels as one batch: faster, not bit for bit.")
    ] = False
    cache: Annotated[
        Path | None,
        Option(help="Folder that keeps what the unmodified model computes, for later sweeps."),
    ] = None
    cache_size: Annotated[
        int | None, Option(help="GiB that the cache may take; 10 by default.", min=1)
    ] = None
    workers: Annotated[int, Option(help="Threads that prepare images.", min=1)] = 2
    threads: Annotated[
        int | None, Option(help="Threads of the forward pass on a CPU, in each process.", min=1)
    ] = None

    def run_options(self, *, fuse: bool) -> "RunOptions":
        """``fuse``: as the recipe has it in the end. Raises ``UserError`` for options that do not
        go together."""
        from ablate_kit.sweeps.backends.worker import RunOptions
        from ablate_kit.sweeps.execution.recording_cache import CAPACITY, RecordingCache

        if self.cache is None and self.cache_size is not None:
            raise UserError("--cache-size goes with --cache FOLDER")
        if fuse and self.no_replay:
            raise UserError("--fuse shares what replay recorded; leave --no-replay out")
        if self.memory != _MEMORY and self.no_replay:
            raise UserError("--memory is for what replay recorded; leave --no-replay out")
        if self.cache is not None and self.no_replay:
            raise UserError("--cache keeps what replay recorded; leave --no-replay out")
        room = CAPACITY if self.cache_size is None else self.cache_size << 30
        if self.cache is not None:
            RecordingCache(self.cache, room).check()
        return RunOptions(not self.no_replay, self.memory * 2**20, self.workers, self.cache, room)
