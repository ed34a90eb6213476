"""A detector in several settings: what each costs in accuracy, and what it saves."""

from collections.abc import Sequence

from ablate_kit import text as safe
from ablate_kit.costs.cost import COUNTED, Cost, Setup
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.reports.answer import answer, change_cells, images_and_objects
from ablate_kit.reports.comparison_table import interval_note
from ablate_kit.reports.cost_reports.cost_table import LATENCY, busy, milliseconds, ratio_text
from ablate_kit.reports.pareto import front
from ablate_kit.reports.table import INTERVAL, Table, number

ON_FRONT = "front"


def knobs_table(results: Sequence[Result], found: Comparison, costs: Sequence[Cost]) -> Table:
    """A row per setting, after the detector as it is; AP alone of the metrics."""
    best = pareto(results, costs)
    setups = list(costs[0].latency)
    rows = []
    for i, (result, cost) in enumerate(zip(results, costs, strict=True)):
        change = found.changes[i - 1]["AP"] if i and found.changes else None
        rows.append(
            (
                result.name,
                number(result.evaluation.overall["AP"]),
                *change_cells(change),
                f"{cost.parameters:,}",
                f"{cost.flops / 1e9:.3f}",
                *(cell for setup in setups for cell in _latency(cost, costs[0], setup, i)),
                ON_FRONT if best[i] else "",
            )
        )
    header = (
        "setting",
        *("AP", "Δ AP", INTERVAL, "verdict"),
        *("parameters", "GFLOPs"),
        *(
            text
            for device, batch in setups
            for text in (f"{device}, batch {batch}", f"ratio {device} {batch}")
        ),
        "Pareto",
    )
    title = _title(results, found, costs, rows)
    return Table(title, header, tuple(rows), ("setting", "verdict"))


def pareto(results: Sequence[Result], costs: Sequence[Cost]) -> list[bool]:
    """Which settings no other one beats in AP and in what is drawn against it."""
    gains = [one.evaluation.overall["AP"] for one in results]
    return front(gains, [one[0] for one in prices(costs)])


def prices(costs: Sequence[Cost]) -> list[tuple[float, float, float]]:
    """What a setting costs: its latency as a multiple of the detector's own, with the interval, at
    the first device and batch size; or without a clock its FLOPs."""
    first = costs[0]
    if not first.latency:
        shares = [one.flops / first.flops for one in costs]
        return [(share, share, share) for share in shares]
    setup = next(iter(first.latency))
    ratios = [one.latency[setup].against(first.latency[setup]) for one in costs]
    return [(one.value, one.low, one.high) for one in ratios]


def price_name(costs: Sequence[Cost]) -> str:
    if not costs[0].latency:
        return "FLOPs, as a share of the detector's own"
    device, batch = next(iter(costs[0].latency))
    return f"latency on {device}, batch {batch}, as a multiple of the detector's own"


def _latency(cost: Cost, first: Cost, setup: Setup, row: int) -> tuple[str, str]:
    taken = cost.latency[setup]
    text = f"{milliseconds(taken.median)} ({taken.p95 * 1000:.2f})"
    return text, ratio_text(taken.against(first.latency[setup])) if row else ""


def _title(
    results: Sequence[Result],
    found: Comparison,
    costs: Sequence[Cost],
    rows: Sequence[Sequence[str]],
) -> str:
    lines = []
    if found.changes:
        lines += [answer(results, found.changes)]
    lines += [
        f"{safe.line(results[0].name)}: {images_and_objects(results[0].evaluation)}; one knob "
        "turned, the others left"
    ]
    if found.changes:
        lines += [interval_note(results, found.changes, rows, found.statistics.adjust)]
    lines += [f"FLOPs {COUNTED}"]
    if costs[0].latency:
        lines += [f"{LATENCY}; in brackets after a median: the 95th percentile"]
        lines += busy(costs[0])
    lines += [
        f"{ON_FRONT}: no other setting has as high an AP at a lower price, whatever their "
        f"intervals: {price_name(costs)}"
    ]
    return "\n".join(line for line in lines if line)
