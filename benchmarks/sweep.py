"""Time sweeps against the naive loop over the same variants, in one run.

    python benchmarks/sweep.py [--only detr-encoder] [--images 2] [--threads 1] [--naive 4]
    python benchmarks/sweep.py --device cuda
    python benchmarks/sweep.py --deimv2 FOLDER --annotations FILE --images-folder FOLDER

Both sides run the same prepared batch through the same model and decode every output; no disk is
involved, and every output is held against the other side's, bit for bit. Times are of the CPU, or
of a GPU that has done all that it was given.

The bound is what the skipped share of compute allows: the naive loop's time over what is left of it
when each pass costs only its share after the first use of what its variant changes. One unmodified
pass and all decoding are on both sides. The plan is made before; it costs three passes for a whole
data set.

Every naive pass costs the same, so `--naive 4` times four of them and scales; the row says so.
On a GPU a last column tells what deterministic kernels cost: a full pass with them over one
without.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from clock import Clock, peak_mib
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.layers import Layers
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import Group, groups, prepared_batches
from ablate_kit.models.inference.detect import device_of, inference
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.execution.disagreement import disagreement
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.plan import shares
from ablate_kit.sweeps.execution.trace import Call, Trace
from ablate_kit.sweeps.variants.variant import Variant
from detector.config import preset
from detector.data.dataset import Dataset, limit
from detector.data.formats.coco import Coco
from detector.data.shapes import Shapes
from detector.network.model import HybridDetector


@dataclass(frozen=True)
class Case:
    name: str
    adapter: Adapter
    ablations: Sequence[Ablation]
    batch: list[Any]


@dataclass(frozen=True)
class Row:
    """One case, measured."""

    model: str
    device: str
    images: int
    variants: int
    naive_seconds: float  # of all variants, each in full; scaled where only some were timed
    replay_seconds: float
    ratio: float
    bound: float  # what ``ratio`` could be at most, by the share of compute that is skipped
    equal: bool  # whether every detection of every timed variant is the same, bit for bit
    peak_mib: float  # of the GPU while it swept, or of this process so far
    timed: int
    deterministic: float  # time of a full pass with deterministic kernels over one without
    notes: Sequence[str]
    # Variants that silence heads side by side: seconds, and how far they are from replay at most.
    fused_seconds: float | None = None
    fused_apart: float = 0.0


COLUMNS = ("images", "variants", "naive s", "sweep s", "ratio", "bound", "of it", "equal", "MiB")


@dataclass(frozen=True)
class Options:
    """Of what is measured."""

    device: str = "cpu"
    images: int = 8  # in the batch
    size: int = 640  # of DETR's images, in pixels
    only: str = ""  # cases whose name starts with this
    # Full passes that are timed, and scaled to all variants; None: one of each.
    naive: int | None = None
    deimv2: Path | None = None  # a folder of Hugging Face's
    # annotations, images_folder: COCO's, else shapes.
    annotations: Path | None = None
    images_folder: Path | None = None
    fuse: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=8, help="in the batch")
    parser.add_argument("--size", type=int, default=640, help="of DETR's images, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose name starts with this")
    parser.add_argument(
        "--naive", type=int, help="full passes that are timed, and scaled to all variants"
    )
    parser.add_argument("--fuse", action="store_true", help="time heads side by side, too")
    parser.add_argument("--deimv2", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images-folder", type=Path)
    given = vars(parser.parse_args())
    threads = given.pop("threads")
    torch.set_num_threads(threads)
    options = Options(**given)
    gpu = torch.device(options.device).type == "cuda"
    on = torch.cuda.get_device_name(options.device) if gpu else f"{threads} threads; CPU time"
    print(f"torch {torch.__version__}, {on}, decoding included")
    print(" " * 14 + "".join(f" {one:>8}" for one in COLUMNS), flush=True)
    for row in rows(options):
        print(told(row), flush=True)
        assert row.equal, f"{row.model}: not bit for bit"


def rows(options: Options) -> Iterator[Row]:
    """One row after the other, as they are measured."""
    for name, make in _cases(options):
        if name.startswith(options.only):
            yield _measured(make(), options.naive, fuse=options.fuse)


def told(row: Row) -> str:
    cells = (
        f"{row.images:8}",
        f"{row.variants:8}",
        f"{row.naive_seconds:8.2f}",
        f"{row.replay_seconds:8.2f}",
        f"{row.ratio:8.1f}",
        f"{row.bound:8.1f}",
        f"{row.ratio / row.bound:8.0%}",
        f"{'yes' if row.equal else 'NO':>8}",
        f"{row.peak_mib:8.0f}",
    )
    said = [] if row.timed > row.variants else [f"naive: {row.timed} passes timed, scaled"]
    if row.fused_seconds is not None:
        gain = row.replay_seconds / row.fused_seconds
        apart = f"{row.fused_apart:.0e} apart"
        said.append(f"side by side {row.fused_seconds:.2f} s, {gain:.1f} over replay, {apart}")
    if row.device != "cpu":
        said.append(f"deterministic {row.deterministic:.2f}x")
    return f"{row.model:14} " + " ".join(cells) + "".join(f"  {one}" for one in said)


def _cases(options: Options) -> Iterator[tuple[str, Callable[[], Case]]]:
    for part in ("decoder", "encoder", "layers"):
        yield f"detr-{part}", lambda part=part: detr(part, options)  # type: ignore[misc]
    yield "hybrid", lambda: _hybrid(options)
    if options.deimv2:
        yield "deimv2", lambda: _deimv2(options)


def _measured(case: Case, sampled: int | None, *, fuse: bool) -> Row:
    device = device_of(case.adapter.module)
    clock = Clock(device)
    variants = [Variant.of(one) for one in case.ablations]
    (group,) = [one.on(device) for one in groups(case.batch)]
    with VariantExecutor(case.adapter, verify=False) as passes:
        plan = passes.look(case.batch, variants)  # plans, once for a whole data set, and warms up
        passes.run(case.batch, variants[:1])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        swept, seconds = clock.of(lambda: passes.run(case.batch, variants))
        peak = peak_mib(device)
    step = max(1, -(-len(variants) // (sampled or len(variants))))
    chosen = list(range(0, len(variants), step))
    with VariantExecutor(case.adapter, replay=False) as full:
        some = [variants[i] for i in chosen]
        full.run(case.batch, some[:1])  # warms up what the plan's passes did not
        naive, naive_seconds = clock.of(lambda: full.run(case.batch, some))
        outputs = case.adapter.forward(group.inputs)
        decode = min(
            clock.of(lambda: case.adapter.decode(outputs, group.origins))[1] for _ in range(3)
        )
        if passes.trace:
            _retime(passes.trace, lambda: case.adapter.forward(group.inputs), clock)
    equal = all(
        same_detections(a, b)
        for one, other in zip([swept[0], *(swept[1 + i] for i in chosen)], naive, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    count = len(variants) + 1
    each = naive_seconds / len(naive)
    bound = 1.0
    if passes.trace and plan:
        shares_of = shares(passes.trace, plan)
        left = len(plan.parts) + sum(share for *_, share in shares_of.values())
        bound = count * each / (count * decode + left * (each - decode))
    return Row(
        case.name,
        str(device),
        len(case.batch),
        len(variants),
        count * each,
        seconds,
        count * each / seconds,
        bound,
        equal,
        peak,
        len(naive),
        _deterministic(case.adapter, group, clock) if device.type == "cuda" else 1.0,
        tuple(passes.notes),
        *(_fused(case, variants, swept, clock) if fuse else ()),
    )


def _fused(
    case: Case,
    variants: Sequence[Variant],
    swept: Sequence[Sequence[ImageDetections]],
    clock: Clock,
) -> tuple[float, float]:
    with VariantExecutor(case.adapter, fuse=True) as side:
        side.run(case.batch, variants)  # holds them against replay, and warms up
        found, seconds = clock.of(lambda: side.run(case.batch, variants))
    return seconds, max(disagreement(a, b) for a, b in zip(found, swept, strict=True))


def _deterministic(adapter: Adapter, group: Group, clock: Clock) -> float:
    """Time of a full pass with deterministic kernels over one without: medians, in turn."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(7):
        for chosen, seconds in times.items():
            with inference(adapter.module, deterministic=chosen):
                seconds.append(clock.of(lambda: adapter.forward(group.inputs))[1])
    return statistics.median(times[True][1:]) / statistics.median(times[False][1:])


def _retime(trace: Trace, run: Callable[[], Any], clock: Clock) -> None:
    """Gives every call of a trace the time that it takes when nobody watches its operations."""
    calls = list(_all(trace.root))
    for repeat in range(2):
        seconds: list[float] = []
        began: list[tuple[int, float]] = []

        def before(module: Any, inputs: Any, seconds: Any = seconds, began: Any = began) -> None:
            began.append((len(seconds), clock()))
            seconds.append(0.0)

        def after(
            module: Any, inputs: Any, output: Any, seconds: Any = seconds, began: Any = began
        ) -> None:
            place, start = began.pop()
            seconds[place] = clock() - start

        with (
            register_module_forward_pre_hook(before),
            register_module_forward_hook(after, always_call=True),
        ):
            run()
        assert len(seconds) == len(calls), "not the calls of the trace"
        for call, taken in zip(calls, seconds, strict=True):
            call.seconds = min(call.seconds, taken) if repeat else taken


def _all(call: Call) -> Iterator[Call]:
    for child in call.children:
        yield child
        yield from _all(child)


def detr(part: str, options: Options, name: str = "") -> Case:
    """DETR-R50 as published, with random weights."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    from ablate_kit.models.frameworks.hugging_face.transformers_adapter import TransformersAdapter

    backbone = ResNetConfig(out_features=["stage4"])
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, num_labels=91,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DetrForObjectDetection(config).eval()
    size = {"height": options.size, "width": options.size}
    live = {name: (name,) for name in module.state_dict()}
    processor = DetrImageProcessorPil(size=size, do_pad=False)
    adapter = TransformersAdapter(module, processor, live, options.device)
    tensors = module.state_dict()
    if part == "layers":
        ablations = _of_layers(tensors, "model.decoder.layers", "encoder_attn")
    else:
        own = "encoder.layers" if part == "encoder" else "decoder.layers"
        found = attentions(tensors, heads=8)
        ablations = heads_each(
            [one for one in found if own in one.prefix and one.prefix.endswith("self_attn")]
        )
    return Case(name or f"detr-{part}", adapter, ablations, _prepared(adapter, options.images))


def _of_layers(tensors: dict[str, torch.Tensor], base: str, part: str) -> list[Ablation]:
    checkpoint: Any = SimpleNamespace(tensors=tensors)
    return Layers(base=base, part=part).make(KindContext(checkpoint))


def _hybrid(options: Options) -> Case:
    """The hybrid detector at thesis size: heads, layers and modules from neck to heads."""
    module = HybridDetector(preset("thesis"), seed=0)
    live = {name: (name,) for name in module.state_dict()}
    classes = tuple(f"class_{i}" for i in range(module.config.num_classes))
    adapter = HybridAdapter(module, classes, live, options.device)
    tensors = module.state_dict()
    found = attentions(tensors, module.config.to_dict())
    own = [one for one in found if one.prefix.startswith("decoder.layers")]
    ablations = heads_each(own)[:: max(1, len(heads_each(own)) // 12)][:12]
    for part in ("self_attn", "cross_attn"):
        ablations += _of_layers(tensors, "decoder.layers", part)[:3]
    for prefix in ("encoder", "neck.repeats.0"):
        names = [name for name in tensors if name.startswith(f"{prefix}.")]
        ablations.append(component(names, prefix))
    return Case("hybrid", adapter, ablations, _prepared(adapter, min(4, options.images)))


def _deimv2(options: Options) -> Case:
    assert options.deimv2
    with open_checkpoint(options.deimv2) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        ablations = heads_each([one for one in found if ".decoder." in one.prefix])
        for part in ("self_attn", "encoder_attn", "mlp"):
            base = "model.decoder.layers"
            ablations += Layers(base=base, part=part).make(KindContext(checkpoint))
        adapter = open_adapter(checkpoint, trust_remote_code=True, device=options.device)
    dataset: Dataset = Shapes(options.images, seed=3)
    if options.annotations and options.images_folder:
        dataset = limit(Coco(options.annotations, options.images_folder), options.images)
    (prepared,) = prepared_batches(adapter, dataset, [len(dataset)])
    return Case("deimv2", adapter, ablations, prepared)


def _prepared(adapter: Adapter, images: int) -> list[Any]:
    shapes = Shapes(images, seed=3, size=256)
    return [adapter.prepare(shapes.image(i)) for i in range(images)]


def same_detections(one: ImageDetections, other: ImageDetections) -> bool:
    """Bit for bit."""
    names = ("boxes", "scores", "labels")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name != "labels")
        for name in names
    )


if __name__ == "__main__":
    main()
