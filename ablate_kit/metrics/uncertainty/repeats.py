"""Changes of an ablation that was drawn several times: images and draws vary apart.

The bootstrap over images tells how far the mean change of the repeats would move with other images.
How far it would move with other draws is told by the repeats themselves, all of them on the same
images. Both sources are independent, so that their variances add up:

    error^2 = error_images^2 + deviation_draws^2 / repeats

The interval uses Student's t with the degrees of freedom of that sum (Satterthwaite 1946), of which
the part of the draws has repeats - 1 and that of the images as many as it has alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.chance import AgainstChance, held_against_chance


@dataclass(frozen=True)
class Combined:
    """The mean change of several draws; None where it is not defined on every one of them.

    Attributes:
        repeats: how many draws.
        change: their mean change.
        low, high: 95 % interval over images and draws.
        error: standard error over both.
        error_images: the part of the images, of the mean change.
        deviation_draws: standard deviation between draws, on the same images.
        p: two-sided, of no change on average over images and draws.
    """

    repeats: int
    change: float | None
    low: float | None
    high: float | None
    error: float | None
    error_images: float | None
    deviation_draws: float | None
    p: float | None

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
    mean = held_against_chance(average(differences))
    if mean is None:
        return Combined(repeats, *[None] * 7)
    images = mean.error**2
    draws = float(np.var([one.value for one in differences], ddof=1)) / repeats
    error = float(np.sqrt(images + draws))
    change = float(mean.change)
    if error == 0:
        p = float(change == 0)
        return Combined(repeats, change, change, change, 0.0, 0.0, 0.0, p)
    parts = images**2 / mean.freedom + draws**2 / (repeats - 1)
    freedom = (images + draws) ** 2 / parts
    # Draws add to the variance, and by themselves nothing to the third moment.
    skew = mean.skew * (images / error**2) ** 1.5
    test = AgainstChance(change, error, freedom, mean.resampled, skew)
    low, high = test.interval()
    return Combined(
        repeats=repeats,
        change=change,
        low=low,
        high=high,
        error=error,
        error_images=float(np.sqrt(images)),
        deviation_draws=float(np.sqrt(draws * repeats)),
        p=test.p,
    )


def average(of: Sequence[Sampled]) -> Sampled:
    """The mean of several, on every sample."""
    return replace(
        of[0],
        value=float(np.mean([one.value for one in of])),
        resampled=np.mean([one.resampled for one in of], axis=0),
        left_out=np.mean([one.left_out for one in of], axis=0),
    )
