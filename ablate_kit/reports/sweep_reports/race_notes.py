"""What a report says of a race."""

from collections.abc import Sequence

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.sequential import Looks

NOTE = (
    "a race: repeats, joint cuts and curves are left out, as their variants have not seen the same "
    "images; boxes and photographs are of the images up to the first look"
)


def saved(results: Sequence[Result], looks: Looks) -> str:
    """How many image passes a race took, in words."""
    others = {one.key: one.images for one in results[1:]}
    done, all_of_them = sum(others.values()), looks.images[-1] * len(others)
    return (
        f"{looks}; {done:,} passes of variants over an image instead of {all_of_them:,}, "
        f"{all_of_them / max(done, 1):.1f} times fewer"
    )
