"""Time sweeps against the naive loop over the same variants, in one run.

    python benchmarks/sweep.py [--only detr-encoder] [--images 2] [--threads 1] [--naive 4]
    python benchmarks/sweep.py --deimv2 FOLDER --annotations FILE --images-folder FOLDER

Both sides run the same prepared batch through the same model and decode every output; no disk is
involved, and every output is held against the other side's, bit for bit. Times are of the CPU.

The bound is what the skipped share of compute allows: the naive loop's time over what is left of it
when each pass costs only its share after the first use of what its variant changes. One unmodified
pass and all decoding are on both sides. The plan is made before; it costs three passes for a whole
data set.

Every naive pass costs the same, so `--naive 4` times four of them and scales; the row says so.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.heads import heads_each
from ablate_kit.ablations.layers import layers
from ablate_kit.ablations.zeros import component
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.adapter import Adapter, ImageDetections
from ablate_kit.models.batches import Group, groups, prepared_batches
from ablate_kit.models.hybrid import HybridAdapter
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.passes import Passes
from ablate_kit.sweeps.plan import shares
from ablate_kit.sweeps.trace import Call, Trace
from ablate_kit.sweeps.variant import Variant
from detector.config import preset
from detector.data.coco import Coco
from detector.data.dataset import limit
from detector.data.shapes import Shapes
from detector.network.model import HybridDetector


@dataclass(frozen=True)
class Case:
    name: str
    adapter: Adapter
    ablations: Sequence[Ablation]
    batch: list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8, help="in the batch")
    parser.add_argument("--size", type=int, default=640, help="of DETR's images, pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose name starts with this")
    parser.add_argument(
        "--naive", type=int, help="full passes that are timed, and scaled to all variants"
    )
    parser.add_argument("--deimv2", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images-folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads; CPU time, decoding included")
    header = ("images", "variants", "naive s", "sweep s", "ratio", "bound", "of it")
    print(" " * 14 + "".join(f" {one:>8}" for one in header), flush=True)
    for name, make in _cases(options):
        if name.startswith(options.only):
            _report(make(), options.naive)


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Case]]]:
    for part in ("decoder", "encoder", "layers"):
        yield f"detr-{part}", lambda part=part: _detr(part, options)  # type: ignore[misc]
    yield "hybrid", lambda: _hybrid(options)
    if options.deimv2:
        yield "deimv2", lambda: _deimv2(options)


def _report(case: Case, sampled: int | None) -> None:
    variants = [Variant.of(one) for one in case.ablations]
    (group,) = groups(case.batch)
    with Passes(case.adapter, verify=False) as passes:
        plan = passes.look(case.batch, variants)  # plans, once for a whole data set, and warms up
        assert not passes.notes, passes.notes
        swept, seconds = _timed(lambda: passes.run(case.batch, variants))
    assert passes.trace
    assert plan
    step = max(1, -(-len(variants) // (sampled or len(variants))))
    chosen = list(range(0, len(variants), step))
    with Passes(case.adapter, replay=False) as full:
        some = [variants[i] for i in chosen]
        naive, naive_seconds = _timed(lambda: full.run(case.batch, some))
        decode = _decode_seconds(case.adapter, group)
        _retime(passes.trace, lambda: case.adapter.forward(group.inputs))
    for one, other in zip([swept[0], *(swept[1 + i] for i in chosen)], naive, strict=True):
        for a, b in zip(one, other, strict=True):
            assert _equal(a, b), f"{case.name}: not bit for bit"
    count = len(variants) + 1
    each = naive_seconds / len(naive)
    shares_of = shares(passes.trace, plan)
    left = len(plan.parts) + sum(share for *_, share in shares_of.values())
    bound = count * each / (count * decode + left * (each - decode))
    ratio = count * each / seconds
    row = (
        f"{len(case.batch):8}",
        f"{len(variants):8}",
        f"{count * each:8.1f}",
        f"{seconds:8.1f}",
        f"{ratio:8.1f}",
        f"{bound:8.1f}",
        f"{ratio / bound:8.0%}",
    )
    scaled = "" if len(chosen) == len(variants) else f"  naive: {len(naive)} passes timed, scaled"
    print(f"{case.name:14} " + " ".join(row) + scaled, flush=True)


def _retime(trace: Trace, run: Callable[[], Any]) -> None:
    """Gives every call of a trace the time that it takes when nobody watches its operations."""
    calls = list(_all(trace.root))
    for repeat in range(2):
        seconds: list[float] = []
        began: list[tuple[int, float]] = []

        def before(module: Any, inputs: Any, seconds: Any = seconds, began: Any = began) -> None:
            began.append((len(seconds), time.process_time()))
            seconds.append(0.0)

        def after(
            module: Any, inputs: Any, output: Any, seconds: Any = seconds, began: Any = began
        ) -> None:
            place, start = began.pop()
            seconds[place] = time.process_time() - start

        hooks = (
            register_module_forward_pre_hook(before),
            register_module_forward_hook(after, always_call=True),
        )
        run()
        for hook in hooks:
            hook.remove()
        assert len(seconds) == len(calls), "not the calls of the trace"
        for call, taken in zip(calls, seconds, strict=True):
            call.seconds = min(call.seconds, taken) if repeat else taken


def _all(call: Call) -> Iterator[Call]:
    for child in call.children:
        yield child
        yield from _all(child)


def _detr(part: str, options: argparse.Namespace) -> Case:
    """DETR-R50 as published, with random weights."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    from ablate_kit.models.transformers import TransformersAdapter

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
    adapter = TransformersAdapter(module, DetrImageProcessorPil(size=size, do_pad=False), live)
    tensors = module.state_dict()
    if part == "layers":
        ablations = layers(tensors, "model.decoder.layers", "encoder_attn", "progressive", "DETR")
    else:
        own = "encoder.layers" if part == "encoder" else "decoder.layers"
        found = attentions(tensors, heads=8)
        ablations = heads_each(
            [one for one in found if own in one.prefix and one.prefix.endswith("self_attn")]
        )
    return Case(f"detr-{part}", adapter, ablations, _prepared(adapter, options.images))


def _hybrid(options: argparse.Namespace) -> Case:
    """The hybrid detector at thesis size: heads, layers and modules from neck to heads."""
    module = HybridDetector(preset("thesis"), seed=0)
    live = {name: (name,) for name in module.state_dict()}
    classes = tuple(f"class_{i}" for i in range(module.config.num_classes))
    adapter = HybridAdapter(module, classes, live)
    tensors = module.state_dict()
    found = attentions(tensors, module.config.to_dict())
    own = [one for one in found if one.prefix.startswith("decoder.layers")]
    ablations = heads_each(own)[:: max(1, len(heads_each(own)) // 12)][:12]
    for part in ("self_attn", "cross_attn"):
        ablations += layers(tensors, "decoder.layers", part, "progressive", "hybrid")[:3]
    for prefix in ("encoder", "neck.repeats.0"):
        names = [name for name in tensors if name.startswith(f"{prefix}.")]
        ablations.append(component(names, prefix))
    return Case("hybrid", adapter, ablations, _prepared(adapter, min(4, options.images)))


def _deimv2(options: argparse.Namespace) -> Case:
    with open_checkpoint(options.deimv2) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        ablations = heads_each([one for one in found if ".decoder." in one.prefix])
        for part in ("self_attn", "encoder_attn", "mlp"):
            base = "model.decoder.layers"
            ablations += layers(checkpoint.tensors, base, part, "progressive", "deimv2")
        adapter = open_adapter(checkpoint, trust_remote_code=True)
    dataset = limit(Coco(options.annotations, options.images_folder), options.images)
    (prepared,) = prepared_batches(adapter, dataset, [len(dataset)])
    return Case("deimv2", adapter, ablations, prepared)


def _prepared(adapter: Adapter, images: int) -> list[Any]:
    shapes = Shapes(images, seed=3, size=256)
    return [adapter.prepare(shapes.image(i)) for i in range(images)]


def _decode_seconds(adapter: Adapter, group: Group) -> float:
    outputs = adapter.forward(group.inputs)
    return min(_timed(lambda: adapter.decode(outputs, group.origins))[1] for _ in range(3))


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def _equal(one: ImageDetections, other: ImageDetections) -> bool:
    names = ("boxes", "scores", "labels")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name != "labels")
        for name in names
    )


if __name__ == "__main__":
    main()
