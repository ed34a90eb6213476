"""A sweep on a Ray cluster of two nodes, one of which is killed while it runs."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.open_sweep import open_sweep
from ablate_kit.sweeps.run_sweep import run_sweep
from ablate_kit.sweeps.sweep_folder import ledger_of
from tests.ablate_kit.run_files import contents
from tests.ablate_kit.small_sweeps import sweep_recipe

pytest.importorskip("ray", reason='needs ray: install "ablate-kit[ray]"')

pytestmark = [
    pytest.mark.slow,
    # Ray itself leaves sockets to the collector and warns of its own future.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster with one worker's room on each of two nodes."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def study(hybrid: Path, folder: Path, placement: Placement, images: int) -> list[str]:
    rules = [
        {"kind": "heads", "pattern": "decoder.layers.*.self_attn"},
        {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
    ]
    recipe = sweep_recipe(hybrid, rules, images, batch_size=2)
    with open_sweep(recipe, placement, threads=1) as sweep:
        return list(run_sweep(sweep, ledger_of(sweep, folder)).notes)


def test_a_lost_node_costs_its_shard_and_changes_no_byte(
    hybrid: Path, tmp_path: Path, nodes: Any
) -> None:
    assert study(hybrid, tmp_path / "here", Placement(), 40) == []
    partial = tmp_path / "there" / "partial"

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(list(partial.glob("0*"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        nodes.remove_node(nodes.second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    notes = study(hybrid, tmp_path / "there", Placement(ray=nodes.address), 40)
    killer.join()
    # Whether a shard was under way on the node when it went is up to the machine.
    assert all(note.startswith("a worker was lost; ") for note in notes)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_cluster_without_a_free_place_is_told(hybrid: Path, tmp_path: Path, nodes: Any) -> None:
    import ray

    class Busy:
        def ready(self) -> bool:
            return True

    ray.init(address=nodes.address, namespace="other", log_to_driver=False)
    try:
        others = [
            ray.remote(Busy).options(num_cpus=1, lifetime="detached", name=f"{i}").remote()
            for i in range(2)
        ]
        assert all(ray.get([one.ready.remote() for one in others]))
    finally:
        ray.shutdown()
    with pytest.raises(UserError, match="busy: a worker needs 1 CPU, and no place is free"):
        study(hybrid, tmp_path / "there", Placement(ray=nodes.address), 2)
    assert not (tmp_path / "there" / "results.json").exists()


def test_a_cluster_that_is_not_there_is_told(hybrid: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Ray cluster at"):
        study(hybrid, tmp_path / "there", Placement(ray="127.0.0.1:1"), 2)
