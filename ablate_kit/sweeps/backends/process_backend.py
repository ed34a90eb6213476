"""A process per device: several GPUs of one machine, or parts of its CPU."""

import multiprocessing
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ablate_kit.errors import UserError
from ablate_kit.sweeps.backends.failure import Failure, answered
from ablate_kit.sweeps.backends.worker import Worker, WorkerSpec
from ablate_kit.sweeps.scheduling.engine import Report
from ablate_kit.sweeps.scheduling.scheduler import BatchResult, Work
from detector.uninterrupted import uninterrupted


class Processes:
    """A pool of plain processes; see ``engine.Pool``."""

    def __init__(self, processes: Sequence[tuple[BaseProcess, Connection]]) -> None:
        self._open = {connection: process for process, connection in processes}

    def workers(self) -> Sequence[Hashable]:
        return list(self._open)

    def submit(self, worker: Hashable, work: Work) -> None:
        assert isinstance(worker, Connection)  # noqa: S101 - it is one of ours
        try:
            worker.send(work)
        except OSError:
            return  # the process has ended: ``next_report`` will find out

    def next_report(self) -> Report:
        for ready in wait(list(self._open)):
            if not isinstance(ready, Connection):
                continue
            try:
                found: BatchResult | Failure | UserError = ready.recv()
            except (EOFError, ConnectionError):
                del self._open[ready]
                return Report(ready, [], lost=True)
            return Report(ready, [answered(found)])
        raise AssertionError("waiting returned without a connection")


@contextmanager
def processes(spec: WorkerSpec, devices: Sequence[str]) -> Iterator[Processes]:
    """One process for each device, ended with the block."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for device in devices:
            here, there = context.Pipe()
            process: BaseProcess = context.Process(
                target=_serve, args=(there, replace(spec, device=device)), daemon=True
            )
            with uninterrupted():
                process.start()
            there.close()
            started.append((process, here))
        yield Processes(started)
    finally:
        for process, connection in started:
            connection.close()
            process.terminate()
            process.join()


def _serve(connection: Connection, spec: WorkerSpec) -> None:
    try:
        with Worker.open(spec) as worker:
            while True:
                for result in worker.run(connection.recv()):
                    connection.send(result)
    except EOFError:
        return  # the sweep is done
    except Exception as error:
        connection.send(Failure.of(error))
