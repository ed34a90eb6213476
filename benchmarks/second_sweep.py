"""Time a sweep of a decoder that finds what an earlier sweep kept, against one that does not.

    python benchmarks/second_sweep.py [--size 320] [--images 32] [--batch-size 4] [--device cuda]

A DETR-R50 with random weights. An earlier sweep, of the first decoder layer's self-attention, fills
a folder of recordings; then heads of later layers are swept with and without it, from planning and
checks to the last detection, which are held against each other bit for bit. Digests of weights and
images, reading and writing files are in the times; metrics, the same on both sides, are not.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from clock import Clock
from sweep import Options as CaseOptions
from sweep import detr, same_detections

from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.models.adapter import Adapter, ImageDetections, Prepared
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.variant import Variant

# What is swept: the first of these layers, how many.
CASES = {"last layer": (5, 1), "three layers": (3, 3), "all but the first": (1, 5)}


@dataclass(frozen=True)
class Options:
    device: str = "cpu"
    size: int = 320
    images: int = 32
    batch_size: int = 4


@dataclass(frozen=True)
class Row:
    """``first_seconds``: of the earlier sweep, which fills the folder."""

    case: str
    variants: int
    batches: int
    first_seconds: float
    without_seconds: float
    with_seconds: float
    ratio: float
    equal: bool
    mib: float  # of the folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=320, help="of the images, pixels")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4)
    options = Options(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {options.device}; DETR-R50, {options.images} images of "
          f"{options.size} px, {options.batch_size} at a time")  # fmt: skip
    header = ("variants", "first s", "without s", "with s", "ratio", "equal", "MiB")
    print(" " * 18 + "".join(f" {one:>9}" for one in header), flush=True)
    for row in rows(options):
        print(f"{row.case:18} {row.variants:9} {row.first_seconds:9.2f} {row.without_seconds:9.2f} "
              f"{row.with_seconds:9.2f} {row.ratio:9.1f} {'yes' if row.equal else 'NO':>9} "
              f"{row.mib:9.0f}", flush=True)  # fmt: skip
        assert row.equal, f"{row.case}: not bit for bit"


def rows(options: Options) -> Iterator[Row]:
    """One row after the other, as they are measured."""
    case = detr(
        "decoder", CaseOptions(options.device, options.images, options.size), name="second sweep"
    )
    own = [
        one
        for one in attentions(case.adapter.module.state_dict(), heads=8)
        if "decoder.layers" in one.prefix and one.prefix.endswith("self_attn")
    ]
    batches = [
        case.batch[start : start + options.batch_size]
        for start in range(0, options.images, options.batch_size)
    ]
    clock = Clock(torch.device(options.device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cache"
        first = [Variant.of(cut) for cut in heads_each(own[:1])]
        _, began = clock.of(lambda: _swept(case.adapter, first, batches, folder))
        for title, (layer, count) in CASES.items():
            variants = [Variant.of(cut) for cut in heads_each(own[layer : layer + count])]
            plain, without = clock.of(lambda v=variants: _swept(case.adapter, v, batches, None))  # type: ignore[misc]
            found, taken = clock.of(lambda v=variants: _swept(case.adapter, v, batches, folder))  # type: ignore[misc]
            size = sum(one.nbytes for one in RecordingCache(folder).entries())
            equal = all(map(same_detections, plain, found))
            yield Row(
                title, len(variants), len(batches), began, without, taken, without / taken, equal,
                size / 2**20,
            )  # fmt: skip


def _swept(
    adapter: Adapter,
    variants: Sequence[Variant],
    batches: Sequence[Sequence[Prepared]],
    folder: Path | None,
) -> list[ImageDetections]:
    cache = RecordingCache(folder) if folder else None
    with VariantExecutor(adapter, cache=cache) as executor:
        found = [executor.run(batch, variants) for batch in batches]
    assert not executor.notes, executor.notes
    return [one for batch in found for row in batch for one in row]


if __name__ == "__main__":
    main()
