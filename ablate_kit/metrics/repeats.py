"""Changes of an ablation that was drawn several times: images and draws vary apart.

The bootstrap over images tells how far the mean change of the repeats would move with other images.
How far it would move with other draws is told by the repeats themselves, all of them on the same
images. Both sources are independent, so that their variances add up:

    error^2 = error_images^2 + deviation_draws^2 / repeats

The interval uses Student's t with the degrees of freedom of that sum (Satterthwaite 1946), of which
the part of the draws has repeats - 1 and that of the images as many as do not matter.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import t as student

from ablate_kit.errors import UserError
from ablate_kit.metrics.bootstrap import LEVEL, Floats


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


def combined(pairs: Sequence[tuple[Floats, Floats]]) -> Combined:
    """The change from the first to the second of each pair, one pair per draw.

    Args:
        pairs: numbers of one metric on the same resamples, as ``Bootstrap.samples`` gives them: the
            baseline and each repeat; or, to read an ablation against chance, each random cut of
            its size and the ablation.

    Raises ``UserError`` for fewer than two.
    """
    if len(pairs) < 2:
        raise UserError(f"{len(pairs)} repeats tell nothing of how draws differ; give 2 or more")
    differences = np.stack([after - before for before, after in pairs])  # (draws, resamples)
    means = differences.mean(axis=0)
    resampled = means[1:][np.isfinite(means[1:])]
    if not np.isfinite(means[0]) or len(resampled) < 2:
        return Combined(len(pairs), *[None] * 7)
    images = float(resampled.var(ddof=1))
    draws = float(differences[:, 0].var(ddof=1)) / len(pairs)
    error = float(np.sqrt(images + draws))
    change = float(means[0])
    if error == 0:
        p = float(change == 0)
        return Combined(len(pairs), change, change, change, 0.0, 0.0, 0.0, p)
    freedom = (images + draws) ** 2 * (len(pairs) - 1) / draws**2 if draws else np.inf
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    return Combined(
        repeats=len(pairs),
        change=change,
        low=change - half,
        high=change + half,
        error=error,
        error_images=float(np.sqrt(images)),
        deviation_draws=float(np.sqrt(draws * len(pairs))),
        p=2 * float(student.sf(abs(change) / error, freedom)),
    )
