"""Changes of an ablation that was drawn several times: images and draws vary apart.

The bootstrap over images tells how far the mean change of the repeats would move with other images.
How far it would move with other draws is told by the repeats themselves, all of them on the same
images. Both sources are independent, so that their variances add up:

    error^2 = error_images^2 + deviation_draws^2 / repeats

The interval has as its half the root of two squares (``two_chances``): that of the draws, with
repeats - 1 degrees of freedom, and that of the images as it is alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.two_chances import TwoChances


@dataclass(frozen=True)
class Combined:
    """The mean change of several draws; None where it is not defined on every one of them."""

    repeats: int  # how many draws
    change: float | None  # their mean change
    # low, high: 95 % interval over images and draws; None, too, where neither makes a difference.
    low: float | None
    high: float | None
    error: float | None  # standard error over both
    error_images: float | None  # the part of the images, of the mean change
    deviation_draws: float | None  # standard deviation between draws, on the same images
    p: float | None  # two-sided, of no change on average over images and draws

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


def combined(pairs: Sequence[tuple[Sampled, Sampled]]) -> Combined:
    """The change from the first to the second of each pair, one pair per draw.

    Args:
        pairs: of one metric on the same samples: the baseline and each repeat; or, to read an
            ablation against chance, each random cut of its size and the ablation.

    Raises ``UserError`` for fewer than two.
    """
    repeats = len(pairs)
    if repeats < 2:
        raise UserError(f"{repeats} repeats tell nothing of how draws differ; give 2 or more")
    differences = [after - before for before, after in pairs]
    mean = paired_test(average(differences))
    if mean is None:
        return Combined(repeats, *[None] * 7)
    draws = float(np.std([one.value for one in differences], ddof=1))
    test = TwoChances(mean, draws / repeats**0.5, repeats - 1)
    low, high = test.ends()
    return Combined(
        repeats=repeats,
        change=float(mean.change),
        low=low,
        high=high,
        error=float(np.hypot(mean.error, test.error)),
        error_images=mean.error,
        deviation_draws=draws,
        p=test.p,
    )


def average(of: Sequence[Sampled], weights: Sequence[float] | None = None) -> Sampled:
    """The mean of several, on every sample."""
    return replace(
        of[0],
        value=float(np.average([one.value for one in of], weights=weights)),
        resampled=np.average([one.resampled for one in of], axis=0, weights=weights),
        left_out=np.average([one.left_out for one in of], axis=0, weights=weights),
    )
