"""What ``ablate shrink`` did, in lines and as plain values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate_kit import text as safe
from ablate_kit.plural import counted, first_few
from ablate_kit.reports.answer import drawn_units, not_shown

if TYPE_CHECKING:
    from ablate_kit.costs.cost import Cost
    from ablate_kit.metrics.result import Result
    from ablate_kit.metrics.uncertainty.comparison import Comparison
    from ablate_kit.shrinking.free_parts import FreeParts
    from ablate_kit.shrinking.free_variants import FreeVariants
    from ablate_kit.shrinking.smaller_checkpoint import Shrunk
    from ablate_kit.shrinking.structures import Structure

_SHOWN = 12  # structures that are listed


def found_free(free: "FreeVariants", parts: "FreeParts") -> str:
    """How much of what a run tested is free and can go, and why the rest of it stays."""
    better = f" ({free.gaining} of them better left out)" if free.gaining else ""
    shown = free.seen and not_shown(*drawn_units(free.seen), free.evaluation.margin)
    lines = [
        f"{len(free.ablations)} of {free.tested} variants are free within "
        f"{free.evaluation.margin:g} AP{better}; {len(parts.taken)} can be taken out"
        f"{f'. {shown}' if shown else ''}"
    ]
    groups: dict[str, list[str]] = {}
    for name, why in parts.kept.items():
        groups.setdefault(why, []).append(name)
    lines += [
        f"  {first_few(names, 3)} {'stays' if len(names) == 1 else 'stay'}: {why}"
        for why, names in groups.items()
    ]
    return "\n".join(map(safe.line, lines))


def document(
    output: Path,
    done: "Shrunk",
    kept: Mapping[str, str],
    costs: "list[Cost]",
    compared: "tuple[list[Result], Comparison] | None",
) -> dict[str, Any]:
    """All of it, as plain values."""
    change: dict[str, Any] | None = None
    if compared:
        results, comparison = compared
        change = {"AP": [one.evaluation.overall["AP"] for one in results]}
        change |= {"change": comparison.changes[0]["AP"].to_dict()} if comparison.changes else {}
    return planned(output, done.structures, kept, done.left_over, done.settings) | {
        "difference": done.agreement.largest,
        "images": done.agreement.images,
        "random_images": done.agreement.random,
        "cost": [costs[0].to_dict(), costs[1].to_dict(costs[0] if costs[0].latency else None)],
        "AP": change,
    }


def planned(
    output: Path,
    structures: Sequence["Structure"],
    kept: Mapping[str, str],
    left_over: Mapping[str, int],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Of it what is known before anything is written."""
    return {
        "path": str(output),
        "taken_out": [str(one) for one in structures],
        "kept": dict(kept),
        "left_over": dict(left_over),
        "settings": dict(settings),
    }


def listed(
    structures: Sequence["Structure"], left_over: Mapping[str, int], settings: Mapping[str, Any]
) -> str:
    """What is taken out, what is left of it as zeros, and the settings that are others now."""
    lines = [f"taken out: {one}" for one in structures[:_SHOWN]]
    if len(structures) > _SHOWN:
        lines.append(f"... and {len(structures) - _SHOWN} more")
    if left_over:
        elements = counted(sum(left_over.values()), "element")
        of = counted(len(left_over), "tensor")
        lines.append(f"still there, as zeros: {elements} of {of}")
    lines += [f"{name}: {_plain(value)}" for name, value in settings.items()]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    return (
        [round(one, 4) if isinstance(one, float) else one for one in value]
        if isinstance(value, tuple)
        else value
    )
