"""A sweep on a Ray cluster of two nodes, one of which is killed while it runs."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.ablations.rule import Source
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.device import thread_count
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.inputs import inputs_of
from ablate_kit.sweeps.ledger import Ledger
from ablate_kit.sweeps.recipe import SweepRecipe
from ablate_kit.sweeps.study import Where, run_study
from ablate_kit.sweeps.worker import Settings

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


def study(hybrid: Path, folder: Path, where: Where, images: int) -> list[str]:
    recipe = SweepRecipe.model_validate(
        {
            "model": {"checkpoint": str(hybrid)},
            "data": {"kind": "shapes", "limit": images},
            "ablations": [
                {"kind": "heads", "pattern": "decoder.layers.*.self_attn"},
                {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
            ],
            "evaluation": {"batch_size": 2},
        }
    )
    dataset = recipe.data.dataset()
    with thread_count(1), open_checkpoint(hybrid) as checkpoint:
        ablations = recipe.make(Source(checkpoint))
        adapter = open_adapter(checkpoint)
        inputs = inputs_of(recipe, checkpoint, dataset, "cpu")
        return run_study(
            Ledger(folder, inputs), adapter, dataset, ablations, recipe, Settings(), where
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_lost_node_costs_its_shard_and_changes_no_byte(
    hybrid: Path, tmp_path: Path, nodes: Any
) -> None:
    assert study(hybrid, tmp_path / "here", Where(), 40) == []
    partial = tmp_path / "there" / "partial"

    def kill() -> None:
        deadline = time.monotonic() + 120
        while len(list(partial.glob("0*"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        nodes.remove_node(nodes.second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    notes = study(hybrid, tmp_path / "there", Where(ray=nodes.address), 40)
    killer.join()
    # Whether a shard was under way on the node when it went is up to the machine.
    assert all(note.startswith("a worker was lost; ") for note in notes)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_cluster_that_is_not_there_is_told(hybrid: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Ray cluster at"):
        study(hybrid, tmp_path / "there", Where(ray="127.0.0.1:1"), 2)
