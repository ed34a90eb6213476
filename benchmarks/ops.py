"""Time the network's operations against their peers, in one run.

    python benchmarks/ops.py [--quick] [--threads 2] [--only encoder]

Peers are natten 0.17's own CPU kernel, where it is installed, and for the deformable operations
the usual formulation with ``grid_sample``. Each repeat times both sides one after the other; times
and ratios are medians over the repeats, and a ratio above one says how many times faster we are.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.network.ops.dcnv4 import dcnv4
from detector.network.ops.deformable_attention import multi_scale_deformable_attention
from detector.network.ops.neighborhood_attention import neighborhood_attention

Operation = Callable[..., Tensor]

PYRAMID = [(15, 15), (30, 30), (60, 60), (120, 120)]  # of a 480 x 480 image
SMALL_PYRAMID = [(5, 5), (10, 10), (20, 20), (40, 40)]  # of 160 x 160


@dataclass(frozen=True)
class Case:
    name: str
    inputs: list[Tensor]
    ours: Operation
    peer: Operation
    peer_name: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes only, few repeats")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    repeats = 3 if options.quick else 9
    print(f"torch {torch.__version__}, {options.threads} threads, float32, medians of {repeats}")
    print(f"{'':44} {'':8} {'ours ms':>9} {'peer ms':>9} {'ratio':>7}  peer")
    for case in (*_neighborhood(options.quick), *_deformable(options.quick)):
        if options.only in case.name:
            _report(case, repeats)


def _report(case: Case, repeats: int) -> None:
    out, peer_out = case.ours(*case.inputs), case.peer(*case.inputs)
    torch.testing.assert_close(out, peer_out, rtol=1e-3, atol=1e-3)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))

    def forward(operation: Operation) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return operation(*case.inputs)

        return run

    def backward(result: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(result, case.inputs, grad, retain_graph=True)

    directions = {
        "forward": (forward(case.ours), forward(case.peer)),
        "backward": (backward(out), backward(peer_out)),
    }
    for direction, (ours, peer) in directions.items():
        pairs = [(_seconds(ours), _seconds(peer)) for _ in range(repeats + 1)][1:]  # first warms up
        ours_ms, peer_ms = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(peer / ours for ours, peer in pairs)
        print(
            f"{case.name:44} {direction:8} {ours_ms:9.2f} {peer_ms:9.2f} {ratio:7.2f}  "
            f"{case.peer_name}",
            flush=True,
        )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _neighborhood(quick: bool) -> Iterator[Case]:
    kernels = _natten()
    if kernels is None:
        print("natten 0.17 cannot be imported: neighborhood attention is not compared")
        return
    product, average = kernels
    shapes = [  # B, heads, side, d, kernel
        (1, 4, 28, 32, 7),
        (16, 4, 10, 16, 7),
        (16, 4, 20, 16, 7),
        (1, 10, 15, 64, 7),
        (1, 4, 56, 32, 7),
        (1, 10, 30, 64, 7),
        (1, 4, 60, 32, 7),
        (1, 10, 60, 64, 7),
    ]
    for batch, heads, side, channels, kernel in shapes[:3] if quick else shapes:

        def ours(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, kernel: int = kernel) -> Tensor:
            return neighborhood_attention(q, k, v, kernel=kernel, bias=bias, implementation="tiled")

        def peer(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, kernel: int = kernel) -> Tensor:
            return average(product(q, k, kernel, 1, rpb=bias).softmax(-1), v, kernel, 1)

        name = f"attention {batch} x {heads} x {side}^2 x {channels}, kernel {kernel}"
        maps = [(batch, heads, side, side, channels)] * 3
        inputs = _normal(*maps, (heads, 2 * kernel - 1, 2 * kernel - 1))
        yield Case(name, inputs, ours, peer, "natten")


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


def _deformable(quick: bool) -> Iterator[Case]:
    convolutions = [(16, 40, 32), (1, 60, 128), (1, 120, 128)]  # B, side, C
    for batch, side, channels in convolutions[:1] if quick else convolutions:
        groups = channels // 16

        def convolve(value: Tensor, offset_mask: Tensor, groups: int = groups) -> Tensor:
            return dcnv4(
                value,
                offset_mask,
                groups=groups,
                offset_scale=0.1,
                grid_scale=0.1,
                implementation="bags",
            )

        def convolve_peer(value: Tensor, offset_mask: Tensor, groups: int = groups) -> Tensor:
            return _grid_sample_convolution(value, offset_mask, groups, scale=0.1)

        name = f"dcnv4 {batch} x {side}^2 x {channels}, {groups} groups"
        inputs = _normal((batch, side, side, channels), (batch, side, side, 27 * groups))
        yield Case(name, inputs, convolve, convolve_peer, "grid_sample")

    attentions: list[tuple[str, int, list[tuple[int, int]], int | None, int, int]] = [
        ("small decoder", 16, SMALL_PYRAMID, 50, 4, 16),
        ("small encoder", 16, SMALL_PYRAMID, None, 4, 16),
        ("decoder", 1, PYRAMID, 200, 10, 32),
        ("encoder", 1, PYRAMID, None, 10, 32),
    ]
    for role, batch, shapes, queries, heads, channels in attentions[:1] if quick else attentions:

        def attend(value: Tensor, places: Tensor, weights: Tensor, shapes: Any = shapes) -> Tensor:
            return multi_scale_deformable_attention(value, shapes, places, weights)

        def attend_peer(
            value: Tensor, places: Tensor, weights: Tensor, shapes: Any = shapes
        ) -> Tensor:
            return _grid_sample_attention(value, shapes, places, weights)

        inputs = _attention_inputs(batch, shapes, queries, heads, channels)
        count = inputs[1].shape[1]
        name = f"msda {role} {batch} x {count} queries, {heads} x {channels}"
        yield Case(name, inputs, attend, attend_peer, "grid_sample")


def _normal(*shapes: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def _attention_inputs(
    batch: int, shapes: list[tuple[int, int]], queries: int | None, heads: int, channels: int
) -> list[Tensor]:
    """Value, locations and weights; every token asks where ``queries`` is None.

    Locations are spread by three pixels of each of the four levels around their query.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in shapes)
    if queries is None:
        centers = torch.cat([_centers(*shape) for shape in shapes])
    else:
        centers = torch.rand(queries, 2, generator=generator)
    count, points = len(centers), 4
    size = torch.tensor([(width, height) for height, width in shapes])
    spread = torch.randn(batch, count, heads, len(shapes), points, 2, generator=generator)
    locations = centers[:, None, None, None] + 3 * spread / size[:, None]
    logits = torch.randn(batch, count, heads, len(shapes) * points, generator=generator)
    weights = logits.softmax(-1).unflatten(-1, (len(shapes), points))
    value = torch.randn(batch, tokens, heads, channels, generator=generator)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


def _centers(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack((columns, rows), dim=-1).view(-1, 2)


def _grid_sample_convolution(
    value: Tensor, offset_mask: Tensor, groups: int, scale: float
) -> Tensor:
    batch, height, width, channels = value.shape
    learned = offset_mask.view(batch, height * width, groups, 27)
    steps = torch.arange(3) - 1
    columns = torch.arange(width).repeat(height)[:, None, None]
    rows = torch.arange(height).repeat_interleave(width)[:, None, None]
    x = columns + scale * (steps.repeat_interleave(3) + learned[..., 0:18:2])
    y = rows + scale * (steps.repeat(3) + learned[..., 1:18:2])
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    maps = value.permute(0, 3, 1, 2).reshape(batch * groups, channels // groups, height, width)
    samples = F.grid_sample(maps, grid.transpose(1, 2).flatten(0, 1), align_corners=False)
    weights = learned[..., 18:].transpose(1, 2).reshape(batch * groups, 1, height * width, 9)
    return (samples * weights).sum(-1).view(batch, channels, height, width).permute(0, 2, 3, 1)


def _grid_sample_attention(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = locations.shape
    samples = []
    sizes = [height * width for height, width in shapes]
    for level, ((height, width), part) in enumerate(
        zip(shapes, value.split(sizes, dim=1), strict=True)
    ):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        samples.append(F.grid_sample(maps, grid, align_corners=False))
    together = torch.stack(samples, dim=-2).flatten(-2)
    flat = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    return (together * flat).sum(-1).view(batch, heads * channels, queries).transpose(1, 2)


if __name__ == "__main__":
    main()
