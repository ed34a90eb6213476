"""What a report says of a race."""

from collections.abc import Sequence

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.sequential import Looks

_LEFT_OUT = (
    "Repeats, joint cuts and curves are left out, as variants have not seen the same images; boxes "
    "and photographs are of the images up to the first look."
)


def told(results: Sequence[Result], looks: Looks) -> str:
    """What a race looked at, how many image passes it took, and what its report leaves out."""
    others = {one.key: one.images for one in results[1:]}
    done, all_of_them = sum(others.values()), looks.images[-1] * len(others)
    return (
        f"A race: {looks}. {done:,} passes of variants over an image instead of {all_of_them:,}, "
        f"{all_of_them / max(done, 1):.1f} times fewer. {_LEFT_OUT}"
    )
