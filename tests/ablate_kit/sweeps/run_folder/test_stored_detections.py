"""Detections of unfinished variants, batch by batch."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.stored import pack
from ablate_kit.sweeps.run_folder.stored_detections import UnfinishedBatches, read_detections


def detections(seed: int, batch: int, count: int) -> Detections:
    rng = np.random.default_rng((seed, batch))
    corner = rng.random((count, 2)) * 100
    return Detections(
        image=np.full(count, batch),
        boxes=np.concatenate([corner, corner + rng.random((count, 2))], axis=1),
        scores=rng.random(count).astype(np.float32).astype(float),
        labels=rng.integers(0, 80, count),
        queries=rng.integers(0, 300, count),
    )


def test_each_variant_gets_its_own(tmp_path: Path) -> None:
    batches = UnfinishedBatches(tmp_path)
    counts = {"a": (3, 0), "b": (0, 0), "c": (0, 5), "d": (2, 1)}
    found = {
        key: [detections(number, batch, counts[key][batch]) for batch in range(2)]
        for number, key in enumerate(counts)
    }
    batches.add(0, {key: parts[0] for key, parts in found.items()})
    for keys in ("ac", "bd"):  # in two shards
        batches.add(1, {key: found[key][1] for key in keys})
    assert batches.done() == {0: set("abcd"), 1: set("abcd")}
    for keys in (tuple("abcd"), ("d", "b")):
        for key, one in zip(keys, batches.variants(2, keys), strict=True):
            for name, column in vars(Detections.concatenate(found[key])).items():
                assert np.array_equal(getattr(one, name), column), (key, name)
            assert one.queries is not None
            assert one.boxes.dtype == float


def test_others_take_no_memory(tmp_path: Path) -> None:
    batches = UnfinishedBatches(tmp_path)
    for batch in range(4):
        batches.add(batch, {f"{seed}": detections(seed, batch, 500) for seed in range(60)})
    tracemalloc.start()
    try:
        (found,) = batches.variants(4, ("7",))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(column.nbytes for column in vars(found).values() if column is not None)
    assert peak < 6 * size  # of 60 times as much


def test_files_that_are_broken(tmp_path: Path) -> None:
    batches = UnfinishedBatches(tmp_path)
    batches.add(0, {"a": detections(0, 0, 3)})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(UserError, match=f"{path} is not readable: "):
        batches.done()
    two = pack([detections(0, 0, 3), detections(1, 0, 3)])
    path.write_bytes(safetensors.numpy.save(two, metadata={"keys": '["a"]'}))
    with pytest.raises(UserError, match="holds 2 sets of detections, expected 1"):
        list(batches.variants(1, ("a",)))
    with pytest.raises(UserError, match="holds 2 sets of detections, expected 1"):
        read_detections(path)
    one = pack([detections(0, 0, 3)])
    one["scores"] = np.full(3, np.nan, np.float32)
    path.write_bytes(safetensors.numpy.save(one, metadata={"keys": '["a"]'}))
    with pytest.raises(UserError, match=f"{path} is not readable: .*scores"):
        list(batches.variants(1, ("a",)))


def test_other_bytes_of_unfinished_batches_are_noticed(tmp_path: Path) -> None:
    UnfinishedBatches(tmp_path).add(0, {"a": detections(0, 0, 3), "b": detections(1, 0, 4)})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{path} is not readable: it was changed after it was"):
        list(UnfinishedBatches(tmp_path).variants(1, ("b",)))
    path.write_bytes(whole)
    assert len(next(UnfinishedBatches(tmp_path).variants(1, ("b",)))) == 4
