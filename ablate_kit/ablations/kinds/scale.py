"""Weights made smaller or larger, or noisy: softer cuts than zero."""

from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit, Noise
from ablate_kit.ablations.kinds.drawn import drawn
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Numbers
from ablate_kit.ablations.name_patterns import file_name, is_variance
from ablate_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Scale(Kind):
    """Tensors times a factor."""

    kind: Literal["scale"] = "scale"
    pattern: str
    factors: Numbers

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per factor: every element of the tensors is multiplied by it."""
        tensors, label = source.floating(self.pattern), file_name(self.pattern)
        return [
            Ablation(
                f"{label}-x{factor:g}",
                "scale",
                tuple(Edit(name, factor=factor) for name in tensors),
                factors={"target": label, "factor": factor},
            )
            for factor in self.factors
        ]


@dataclass(frozen=True, kw_only=True)
class Noisy(Kind):
    """Tensors with normal noise added, relative to their own standard deviation.

    Variances of batch normalization stay as they are: a small one would fall below 0, and all that
    is computed with it would be NaN.
    """

    kind: Literal["noise"] = "noise"
    pattern: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per percentage and repeat: normal noise is added to every element, of that
        share of its tensor's own standard deviation."""
        tensors, label = source.floating(self.pattern), file_name(self.pattern)
        tensors = [name for name in tensors if not is_variance(name)]
        if not tensors:
            raise UserError(
                f"{self.pattern} matches variances of batch normalization alone, which noise would "
                "drive below 0"
            )
        for percent in self.percent:
            if percent <= 0:
                raise UserError(f"noise of {percent:g} % of the deviation; expected more than 0")
        return [
            drawn(
                f"{label}-noise{percent:g}pct",
                draw,
                "noise",
                (
                    Edit(name, factor=1.0, noise=Noise(percent / 100, self.seed, draw))
                    for name in tensors
                ),
                {"target": label, "noise_percent": percent},
            )
            for percent in self.percent
            for draw in range(self.repeats)
        ]
