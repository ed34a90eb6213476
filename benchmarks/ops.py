"""Time every way to compute the network's operations against each other, in one run.

    python benchmarks/ops.py [--device cuda] [--sizes thesis] [--quick] [--only attention]

Forward, and forward with backward, in medians over the repeats, by CUDA events on a GPU and in
seconds of the process on a CPU; the repeats of one operation's candidates follow each other.
Errors are the norm of the difference to float64, relative to the norm there: of the output, and of
the worst gradient. (A single sample at a pixel's center, where the slope jumps, may be off by all
of it.) Candidates that are not installed or fail say so in their row. "natten cpu" is natten
0.17's own CPU kernel, "grid_sample" the usual formulation of the deformable operations.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.network.ops.dcnv4 import dcnv4
from detector.network.ops.deformable_attention import multi_scale_deformable_attention
from detector.network.ops.neighborhood_attention import Implementation, neighborhood_attention
from detector.training.tf32 import tf32

Operation = Callable[..., Tensor]
Row = dict[str, Any]

IMAGE_SIZES = {"tiny": 96, "small": 160, "default": 480, "thesis": 640}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    name: str
    inputs: list[Tensor]  # in float32, on the CPU
    exact: Operation  # computes it in float64, too
    candidates: dict[str, Operation]  # the first is what ratios refer to


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", choices=IMAGE_SIZES, nargs="+", help="of images")
    parser.add_argument("--quick", action="store_true", help="tiny images, few repeats")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=1e9, help="no case starts after these")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{options.threads} CPUs"
    print(f"torch {torch.__version__}, {on}")
    print(f"{'':48} {'':5}{'forward':>9}{'and backward':>14} ms {'ratio':>6} {'GB':>6}  errors")
    for row in rows(device, options.quick, options.seconds, options.only, options.sizes):
        print(described(row), flush=True)


def measure(device: str, quick: bool, seconds: float = 1e9) -> list[Row]:
    """Every row as data: see :func:`rows`."""
    return list(rows(torch.device(device), quick, seconds))


def rows(
    device: torch.device,
    quick: bool,
    seconds: float,
    only: str = "",
    sizes: Sequence[str] | None = None,
) -> Iterator[Row]:
    """One per case, precision and candidate.

    ``ratio`` says how many times faster forward with backward is than the case's first candidate;
    ``failed`` holds the reason where there are no times.
    """
    deadline = time.monotonic() + seconds
    gpu = device.type == "cuda"
    sizes = sizes or (["tiny"] if quick else ["thesis" if gpu else "small"])
    cases = [case for size in sizes for case in _cases(IMAGE_SIZES[size], device.type)]
    first: dict[tuple[str, str], float] = {}
    for precision, case in product(("bf16", "fp32") if gpu else ("fp32",), cases):
        if only not in case.name:
            continue
        for name, operation in case.candidates.items():
            row: Row = {"case": case.name, "precision": precision, "candidate": name}
            if time.monotonic() > deadline:
                row["failed"] = "not measured: the time is up"
            else:
                row |= _guarded(case, operation, device, precision, 2 if quick else 9)
            if "both_ms" in row:
                base = first.setdefault((case.name, precision), row["both_ms"])
                row["ratio"] = round(base / row["both_ms"], 2)
            yield row


def described(row: Row) -> str:
    head = f"{row['case']:34} {row['candidate']:13}"
    if "failed" in row:
        return f"{head} {row['precision']:5} {row['failed']}"
    gb = f"{row['peak_gb']:6.2f}" if "peak_gb" in row else f"{'':6}"
    return (
        f"{head} {row['precision']:5}{row['forward_ms']:9.2f}{row['both_ms']:14.2f}    "
        f"{row.get('ratio', 1.0):6.2f} {gb}  {row['error']:.1e} {row['gradient_error']:.1e}"
    )


def _guarded(
    case: Case, operation: Operation, device: torch.device, precision: str, repeats: int
) -> Row:
    """What is measured, or why nothing could be."""
    try:
        with tf32(enabled=False):
            return _measured(case, operation, device, precision, repeats)
    except Exception as error:  # a candidate that fails is a result
        if device.type == "cuda":
            torch.cuda.empty_cache()
        text = f"{type(error).__name__}: {error}".strip().splitlines()
        return {"failed": text[0][:200]}


def _measured(
    case: Case, operation: Operation, device: torch.device, precision: str, repeats: int
) -> Row:
    dtype = DTYPES[precision]
    inputs = [tensor.to(device, dtype).requires_grad_() for tensor in case.inputs]
    started = time.perf_counter()
    out = operation(*inputs)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    found = [out, *torch.autograd.grad(out, inputs, grad)]
    _synchronize(device)
    first_seconds = time.perf_counter() - started
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    exact = case.exact(*doubles)
    expected = [exact, *torch.autograd.grad(exact, doubles, grad.double())]
    errors = [
        ((ours.double() - theirs).norm() / theirs.norm()).item()
        for ours, theirs in zip(found, expected, strict=True)
    ]
    del out, found, exact, expected, doubles

    def forward() -> None:
        with torch.no_grad():
            operation(*inputs)

    def both() -> None:
        torch.autograd.grad(operation(*inputs), inputs, grad)

    row: Row = {"forward_ms": _median_ms(forward, device, repeats)}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    row["both_ms"] = _median_ms(both, device, repeats)
    if device.type == "cuda":
        row["peak_gb"] = round((torch.cuda.max_memory_allocated(device) - before) / 1e9, 3)
    row |= {"error": errors[0], "gradient_error": max(errors[1:])}
    return row | {"first_seconds": round(first_seconds, 2)}


def _median_ms(run: Callable[[], None], device: torch.device, repeats: int) -> float:
    run()
    run()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            started = time.process_time()
            run()
            times.append(1e3 * (time.process_time() - started))
    return round(statistics.median(times), 4)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cases(image: int, device: str) -> Iterator[Case]:
    """What the thesis' network computes for images of this size."""
    batch = 2
    yield from _neighborhood(batch, image, device)
    yield from _convolution(batch, image, device)
    yield from _attention(batch, image, device)


def _neighborhood(batch: int, image: int, device: str) -> Iterator[Case]:
    """Of stage 3, and of stage 2 where it has any."""
    names: list[Implementation] = ["tiled", "sdpa"]
    if device == "cuda":
        names.append("natten")
    kernels = None if device == "cuda" else _natten()
    for heads, stride, channels in ((10, 16, 64), (4, 8, 32)):
        side = max(image // stride, 7)

        def run(
            q: Tensor, k: Tensor, v: Tensor, bias: Tensor, name: Implementation | None = None
        ) -> Tensor:
            return neighborhood_attention(q, k, v, kernel=7, bias=bias, implementation=name)

        def by_natten(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
            assert kernels is not None
            product, average = kernels
            return average(product(q, k, 7, 1, rpb=bias).softmax(-1), v, 7, 1)

        candidates: dict[str, Operation] = {name: partial(run, name=name) for name in names}
        if kernels is not None:
            candidates["natten cpu"] = by_natten
        maps = [(batch, heads, side, side, channels)] * 3
        yield Case(
            f"attention {batch} x {heads} x {side}^2 x {channels}",
            _normal(*maps, (heads, 13, 13)),
            partial(run, name="tiled"),
            candidates,
        )


def _natten() -> tuple[Operation, Operation] | None:
    """natten's products and averages.

    Importing natten 0.17 asks torch for a type alias that is gone and for the GPU's capability;
    both are supplied for the moment of the import.
    """
    missing_type = mock.patch.object(torch.cuda, "_device_t", Any, create=True)
    no_gpu = mock.patch.object(torch.cuda, "get_device_capability", return_value=(0, 0))
    try:
        with missing_type, no_gpu:
            from natten.functional import na2d_av, na2d_qk
    except ImportError:
        return None
    return na2d_qk, na2d_av


def _convolution(batch: int, image: int, device: str) -> Iterator[Case]:
    for stride in (4, 8):
        side, channels, groups = image // stride, 128, 8

        def run(
            value: Tensor, offset_mask: Tensor, name: Any = None, groups: int = groups
        ) -> Tensor:
            return dcnv4(
                value,
                offset_mask,
                groups=groups,
                offset_scale=0.1,
                grid_scale=0.1,
                implementation=name,
            )

        candidates: dict[str, Operation] = {
            name: partial(run, name=name) for name in ("bags", "grid")
        }
        candidates["grid_sample"] = partial(_grid_sample_convolution, groups=groups, scale=0.1)
        if device == "cuda":
            candidates["package"] = partial(run, name="package")
        inputs = _normal((batch, side, side, channels), (batch, side, side, 27 * groups))
        name = f"dcnv4 {batch} x {side}^2 x {channels}"
        yield Case(name, inputs, partial(run, name="bags"), candidates)


def _attention(batch: int, image: int, device: str) -> Iterator[Case]:
    """Offsets of three pixels, about, from every pixel's center or from 200 places."""
    shapes = tuple((image // stride, image // stride) for stride in (32, 16, 8, 4))
    for role in ("encoder", "decoder"):
        centers = torch.cat([_centers(*shape) for shape in shapes])
        if role == "decoder":
            centers = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
        reference = centers[None].to(device)

        def run(
            value: Tensor,
            offsets: Tensor,
            weights: Tensor,
            name: Any = None,
            reference: Tensor = reference,
        ) -> Tensor:
            return multi_scale_deformable_attention(
                value, shapes, reference, offsets, weights, name
            )

        candidates: dict[str, Operation] = {
            name: partial(run, name=name) for name in ("bags", "grid")
        }
        candidates["grid_sample"] = partial(
            _grid_sample_attention, shapes=shapes, reference=reference
        )
        tokens, samples = sum(h * w for h, w in shapes), (batch, len(centers), 10, 4, 4)
        value, offsets, logits = _normal((batch, tokens, 10, 32), (*samples, 2), samples)
        inputs = [value, 3 * offsets, logits.flatten(3).softmax(-1).view(samples)]
        name = f"msda {role} {batch} x {len(centers)} queries"
        yield Case(name, inputs, partial(run, name="bags"), candidates)


def _normal(*shapes: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _centers(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack((columns, rows), dim=-1).view(-1, 2)


def _grid_sample_convolution(
    value: Tensor, offset_mask: Tensor, groups: int, scale: float
) -> Tensor:
    batch, height, width, channels = value.shape
    learned = offset_mask.reshape(batch, height * width, groups, 27)
    count = partial(torch.arange, device=value.device)
    steps = count(3) - 1
    columns = count(width).repeat(height)[:, None, None]
    rows = count(height).repeat_interleave(width)[:, None, None]
    x = columns + scale * (steps.repeat_interleave(3) + learned[..., 0:18:2].float())
    y = rows + scale * (steps.repeat(3) + learned[..., 1:18:2].float())
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    maps = value.permute(0, 3, 1, 2).reshape(batch * groups, channels // groups, height, width)
    samples = _grid_sample(maps, grid.transpose(1, 2).flatten(0, 1))
    weights = learned[..., 18:].transpose(1, 2).reshape(batch * groups, 1, height * width, 9)
    return (samples * weights).sum(-1).view(batch, channels, height, width).permute(0, 2, 3, 1)


def _grid_sample_attention(
    value: Tensor,
    offsets: Tensor,
    weights: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
) -> Tensor:
    batch, _, heads, channels = value.shape
    size = offsets.new_tensor([(width, height) for height, width in shapes])
    locations = reference[:, :, None, None, None] + offsets / size[:, None]
    _, queries, _, levels, points, _ = locations.shape
    samples = []
    sizes = [height * width for height, width in shapes]
    for level, ((height, width), part) in enumerate(
        zip(shapes, value.split(sizes, dim=1), strict=True)
    ):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        samples.append(_grid_sample(maps, grid))
    together = torch.stack(samples, dim=-2).flatten(-2)
    flat = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    return (together * flat).sum(-1).view(batch, heads * channels, queries).transpose(1, 2)


def _grid_sample(maps: Tensor, grid: Tensor) -> Tensor:
    """In the maps' type: that of half precision is as coarse as it is."""
    return F.grid_sample(maps, grid.to(maps.dtype), align_corners=False)


if __name__ == "__main__":
    main()
