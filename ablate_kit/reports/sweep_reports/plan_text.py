"""What a sweep would run, and what it decides on the way, in lines."""

from collections import Counter
from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.plural import counted
from ablate_kit.reports.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablate_kit.sweeps.estimates.pass_cost import PassCost
    from ablate_kit.sweeps.estimates.sweep_size import SweepSize
    from ablate_kit.sweeps.recipes.recipe_rounds import Search
    from ablate_kit.sweeps.recipes.sweep_recipe import ScreenSection
    from ablate_kit.sweeps.scheduling.race import Look

_MUCH = 0.5  # a share of decoding that is told


def plan_text(cost: "PassCost", size: "SweepSize", images: int) -> str:
    """Where each variant restarts, and what all of that costs."""
    variants = size.known
    lines = []
    if not cost.rows:
        lines.append(f"{counted(variants, 'variant')}, each in full")
    else:
        header = ("variant", "restarts in", "on top of", "of the full cost")
        rows = tuple((*words, f"{share:.1%}") for *words, share in cost.rows)
        lines += [
            Table("", header, rows, header[:3]).text(),
            f"{counted(variants, 'variant')} on {counted(images, 'image')}; "
            f"{counted(cost.parts, 'part')}; forward passes cost {cost.share:.1%} of running all "
            "in full, after the first batch",
            *much_decoding(cost.decoding, "variant"),
        ]
    lines += [
        f"a greedy search comes on top: {counted(rounds, 'round')}, {counted(tries, 'variant')}"
        for rounds, tries in size.searches
    ]
    if size.joint:
        lines.append(f"joint cuts of what is missed least come on top: {size.joint}")
    return "\n".join(lines)


def much_decoding(share: float, what: str) -> list[str]:
    """A line where decoding takes most of the time of a variant or cut; or none."""
    if share < _MUCH:
        return []
    return [f"decoding takes {share:.0%} of a {what}'s time; replay saves none of it"]


def screening(section: "ScreenSection", count: int, images: int) -> str:
    """Of so many ablations, what is evaluated."""
    seen = counted(min(section.images, images), "image")
    return (
        f"{count} ablations are screened by gradients on {seen}; the {min(section.keep, count)} "
        f"with the largest estimates and {min(section.sample, count)} drawn are evaluated"
    )


def looked(look: "Look") -> str:
    """What a look of a race has come to."""
    counts = Counter(outcome for _, outcome in look.stopped)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    images = counted(look.images, "image")
    return f"look at {images}: {told or 'none is decided'}; {look.left} left"


def searched(searches: "Sequence[Search]") -> str:
    """The heads that greedy searches removed, in their order."""
    lines = []
    for line, steps in searches:
        lines.append(
            f"greedy removal of heads of {safe.line(line.pattern)}, each time the one without "
            f"which {line.metric} stays highest:"
        )
        for number, step in enumerate(steps, start=1):
            value = "-" if step.value is None else f"{step.value:.4f}"
            lines.append(f"  {number:3}  {safe.line(step.module)} head {step.head}  {value}")
    return "\n".join(lines)
