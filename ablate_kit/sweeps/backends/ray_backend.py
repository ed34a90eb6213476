"""Workers on a Ray cluster that runs already.

Every node must have this package at the same version, and the checkpoint and images under the
same paths.
"""

import signal
import socket
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.plural import counted
from ablate_kit.sweeps.backends.failure import Failure, answered
from ablate_kit.sweeps.backends.worker import Worker, WorkerSpec
from ablate_kit.sweeps.scheduling.engine import Report
from ablate_kit.sweeps.scheduling.scheduler import BatchResult, Work
from detector.extras import missing


class Actors:
    """A pool of Ray actors; see ``engine.Pool``."""

    def __init__(self, ray: Any, actors: Sequence[Any]) -> None:
        self._ray = ray
        self._actors = actors
        self._running: dict[Any, Hashable] = {}

    def workers(self) -> Sequence[Hashable]:
        return list(self._actors)

    def submit(self, worker: Any, work: Work) -> None:
        self._running[worker.run.remote(work)] = worker

    def next_report(self) -> Report:
        ready, _ = self._ray.wait(list(self._running), num_returns=1)
        worker = self._running.pop(ready[0])
        try:
            found = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError:
            raise  # not of our code, which answers with a value
        except self._ray.exceptions.RayError:
            return Report(worker, [], lost=True)
        return Report(worker, answered(found))


class _Served:
    """What runs on the cluster. Opens the model at the first work, so that an error comes back
    as a value instead of as a lost worker."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._worker: Worker | None = None

    def run(self, work: Work) -> list[BatchResult] | Failure | UserError:
        try:
            self._worker = self._worker or Worker.open(self._spec).__enter__()
            return list(self._worker.run(work))
        except Exception as error:
            return Failure.of(error)


@contextmanager
def cluster(spec: WorkerSpec, address: str) -> Iterator[Actors]:
    """As many workers as the cluster has room for, ended with the block.

    Raises:
        UserError: Ray is not installed, no cluster answers, or it has no room.
    """
    ray = import_ray()
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "/" not in host:
            # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'no Ray cluster at "{address}": {error}') from None
    gpu = spec.device.startswith("cuda")
    threads = int(spec.inputs["threads"])
    need = {"num_cpus": threads, "num_gpus": 1 if gpu else 0}
    try:
        room = sum(_room(one["Resources"], threads, gpu) for one in ray.nodes() if one["Alive"])
        what = counted(threads, "CPU") + " and a GPU" * gpu
        if not room:
            raise UserError(f"no node of the Ray cluster has {what}: give fewer --threads")
        # A worker for which there is no room now would be waited for without a word.
        room = min(room, _room(ray.available_resources(), threads, gpu))
        if not room:
            raise UserError(
                f"the Ray cluster is busy: a worker needs {what}, and no place is free; wait, or "
                "give fewer --threads"
            )
        actors = [ray.remote(_Served).options(**need).remote(spec) for _ in range(room)]
        yield Actors(ray, actors)
    finally:
        ray.shutdown()  # ends our actors; the cluster stays


def _room(resources: Mapping[str, float], threads: int, gpu: bool) -> int:
    cpus = int(resources.get("CPU", 0) // threads)
    return min(cpus, int(resources.get("GPU", 0))) if gpu else cpus


def import_ray() -> Any:
    """The library; raises ``UserError`` where it is not installed."""
    listener = signal.getsignal(signal.SIGTERM)
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise missing("a sweep on a cluster", "ray") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, listener)  # Ray puts its own in its place
    return ray
