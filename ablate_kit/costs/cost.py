"""What a model costs, as numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ablate_kit.costs.latency import Latency

COUNTED = (
    "of matrix products, convolutions and attention, 2 for each multiplication with its addition; "
    "not of elementwise operations, normalization, softmax, pooling and interpolation, by which "
    "deformable attention and deformable convolution sample, nor of compiled extensions"
)

Setup = tuple[str, int]  # device and batch size


@dataclass(frozen=True)
class Cost:
    """Of one model."""

    parameters: int  # each once, however many modules share it; buffers are none
    flops: int  # of one image, as ``COUNTED`` says
    size: tuple[int, int]  # (height, width) of the image that the network was given
    # Of a pass on a batch: the network alone, in full float32, warm. Images are prepared before and
    # detections decoded after.
    latency: Mapping[Setup, Latency] = field(default_factory=dict)
    # Of a pass, as ``one_pass.peak_bytes`` has it.
    peak_bytes: Mapping[Setup, int] = field(default_factory=dict)
    file_bytes: int | None = None  # of the checkpoint; None where there is none

    def to_dict(self, first: "Cost | None" = None) -> dict[str, Any]:
        """Plain values; with the ratios to ``first``, where it was measured beside this one."""
        return {
            "parameters": self.parameters,
            "flops": self.flops,
            "size": list(self.size),
            "file_bytes": self.file_bytes,
            "passes": [
                {
                    "device": device,
                    "batch": batch,
                    "rounds": len(taken.seconds),
                    "median_seconds": taken.median,
                    "p95_seconds": taken.p95,
                    "ratio": None
                    if first is None
                    else asdict(taken.against(first.latency[device, batch])),
                    "peak_bytes": self.peak_bytes[device, batch],
                }
                for (device, batch), taken in self.latency.items()
            ],
        }
