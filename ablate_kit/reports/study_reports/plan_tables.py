"""What a study would cut how, on how many images, and what that takes."""

from typing import TYPE_CHECKING

from ablate_kit.plural import counted, duration
from ablate_kit.reports.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection

    from ablate_kit.studies.budget import Budget
    from ablate_kit.studies.budget_plan import Candidate, Outline


def levels_table(
    made: "Outline", fits: "Collection[Candidate]", images: int, budget: "Budget"
) -> Table:
    """A row per level of parts; ``fits``: what the budget has room for."""
    rows = []
    seen: set[str] = set()
    for depth, every in made.levels():
        level = [one for one in every if one.cut.variant not in seen]  # alike cuts are one
        seen |= {one.cut.variant for one in level}
        if not level:
            continue
        heads = sum(one.cut.head is not None for one in level)
        hows = [one.cut.how for one in level]
        inside = sum(one in fits for one in level)
        rows.append(
            (
                "top-level parts" if depth == 0 else f"inside, level {depth}",
                str(len(level) - heads),
                str(heads),
                *(str(hows.count(how)) for how in ("removed", "mean", "zero")),
                duration(made.cost(level, images)),
                str(inside),
            )
        )
    header = ("what", "parts", "heads", "removed", "mean", "zero", "at most", "fit")
    title = (
        f"{counted(len(seen), 'cut')} on {images:,} of {counted(made.total, 'image')}; budget "
        f"{budget}; {(made.time.forward + made.time.decoding) * 1000:.0f} ms for an image"
    )
    return Table(title, header, tuple(rows), ("what",))


def cuts_table(made: "Outline") -> Table:
    """A row per cut, indented by the part that it is inside of."""
    rows = [
        (
            "  " * one.depth + (one.cut.part if one.cut.head is None else f"head {one.cut.head}"),
            one.kind,
            one.cut.how,
            f"{one.share:.0%}",
        )
        for one in made.candidates
    ]
    return Table("", ("part", "kind", "cut", "of a pass"), tuple(rows), ("part", "kind", "cut"))
