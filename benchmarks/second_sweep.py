"""Time a sweep of a decoder that finds what an earlier sweep kept, against one that does not.

    python benchmarks/second_sweep.py [--size 320] [--images 32] [--batch-size 4] [--device cuda]
    python benchmarks/second_sweep.py --recipes FIRST.yaml SECOND.yaml [--trust-remote-code]

A DETR-R50 with random weights. An earlier sweep, of the first decoder layer's self-attention, fills
a folder of recordings; then heads of later layers are swept with and without it, from planning and
checks to the last detection, which are held against each other bit for bit. Digests of weights and
images, reading and writing files are in the times; metrics, the same on both sides, are not.

``--recipes`` times two commands whole, from start to report: CPU seconds of ``ablate sweep`` of the
second recipe, without recordings and with those of the first.
"""

import argparse
import os
import resource
import subprocess
import sys
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
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.reports.results_file import timeless
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.recording_cache import RecordingCache
from ablate_kit.sweeps.variants.variant import Variant

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
    parser.add_argument("--recipes", type=Path, nargs=2, help="of two sweeps, timed as commands")
    parser.add_argument("--trust-remote-code", action="store_true")
    given = vars(parser.parse_args())
    recipes, trusted = given.pop("recipes"), given.pop("trust_remote_code")
    if recipes:
        first, second = recipes
        commands(first, second, ["--trust-remote-code"] if trusted else [])
        return
    options = Options(**given)
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


def commands(first: Path, second: Path, flags: Sequence[str]) -> None:
    """CPU seconds of whole commands, which leave the same files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = ["--cache", str(folder / "cache")]
        seconds = {
            title: _seconds([str(recipe), "-o", str(folder / title), *flags, *more])
            for title, recipe, more in (
                ("first", first, cache),
                ("without", second, []),
                ("with", second, cache),
            )
        }
        plain, found = (_numbers(folder / title) for title in ("without", "with"))
    told = ", ".join(f"{title} {value:.1f} s" for title, value in seconds.items())
    print(f"{told}; ratio {seconds['without'] / seconds['with']:.2f}")
    assert found == plain, "not the same files"


def _seconds(words: Sequence[str]) -> float:
    program = "import sys; from ablate_kit.cli import main; sys.exit(main())"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, "sweep", *words]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _numbers(run: Path) -> dict[str, bytes]:
    """All files but the two that tell the command, which is another."""
    found = {str(one.relative_to(run)): one for one in run.rglob("*") if one.is_file()}
    told = {name: one.read_bytes() for name, one in found.items()}
    told["report/results.json"] = timeless(told["report/results.json"])
    return {
        name: data
        for name, data in told.items()
        if name not in ("about.json", "report/report.html")
    }


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
