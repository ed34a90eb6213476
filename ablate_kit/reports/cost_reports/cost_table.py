"""What a model cost before and costs after, as a table."""

from ablate_kit.costs.cost import COUNTED, Cost
from ablate_kit.costs.latency import Ratio
from ablate_kit.reports.table import Table, number

LATENCY = (
    "latency of the network alone, warm, in full float32; models take turns, and a ratio is the "
    "median over rounds with its 95 % interval"
)

_BUSY = 0.2  # share of the time that others had


def cost_table(before: Cost, after: Cost) -> Table:
    """A row per quantity, for two models that were measured side by side."""
    rows = [
        _row("parameters", before.parameters, after.parameters, "{:,}"),
        _row("FLOPs per image", before.flops, after.flops, "{:,}"),
    ]
    if before.file_bytes is not None and after.file_bytes is not None:
        rows.append(_row("bytes of the file", before.file_bytes, after.file_bytes, "{:,}"))
    for setup, taken in before.latency.items():
        device, batch = setup
        other = after.latency[setup]
        rows += [
            (
                f"latency, {device}, batch {batch}: median",
                milliseconds(taken.median),
                milliseconds(other.median),
                ratio_text(other.against(taken)),
            ),
            ("  95th percentile", milliseconds(taken.p95), milliseconds(other.p95), ""),
            _row("  peak memory, bytes", before.peak_bytes[setup], after.peak_bytes[setup], "{:,}"),
        ]
    header = ("", "before", "after", "after / before")
    told = [LATENCY, *busy(before)] if before.latency else []
    title = "\n".join((f"FLOPs {COUNTED}", *told))
    return Table(title, header, tuple(rows), ("",))


def busy(cost: Cost) -> list[str]:
    """That others used the CPU while latency was measured, or nothing."""
    idle = max(
        (one.idle for (device, _), one in cost.latency.items() if device == "cpu"), default=0
    )
    if idle < _BUSY:
        return []
    return [
        f"the processor was busy with other programs for {idle:.0%} of the time: latencies are "
        "longer than on an idle machine, and ratios less certain"
    ]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def ratio_text(ratio: Ratio) -> str:
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _row(what: str, before: int, after: int, form: str) -> tuple[str, str, str, str]:
    ratio = number(after / before if before else None, ".3f")
    return what, form.format(before), form.format(after), ratio
