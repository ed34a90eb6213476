"""What a finished sweep is about: its variants by their names, and what its report is made with."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.sweeps.variants.variant import Variant

Key = Annotated[str, StringConstraints(pattern="^[0-9a-f]{24}$")]  # it names a file, too


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class NamedVariant(_Read):
    name: str
    kind: str
    key: Key
    factors: dict[str, str | int | FiniteFloat]

    @classmethod
    def of(cls, one: Ablation | Variant, key: str) -> Self:
        return cls(name=one.name, kind=one.kind, key=key, factors=dict(one.factors))


class NotedRace(_Read):
    """Looks of a race; ``order``: the seed of the order of its images."""

    images: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    variants: int = Field(ge=0)
    futility: float = Field(default=0, ge=0, lt=1)  # earlier versions gave nothing up
    order: int = Field(ge=0)

    @property
    def looks(self) -> Looks:
        return Looks(tuple(self.images), self.variants, self.futility)


class Manifest(_Read):
    """What a finished run is about, by the names that its variants have now."""

    resamples: int = Field(ge=0)
    seed: int = Field(ge=0)
    margin: float = Field(ge=0, lt=1)
    adjust: Adjust
    cluster: str | None
    race: NotedRace | None = None
    data: dict[str, Any] | None = None  # where the images are, as in the recipe
    model: dict[str, Any] | None = None  # the same of the checkpoint
    folder: str | None = None  # below which relative names of files were meant; earlier: unknown
    variants: list[NamedVariant]

    @property
    def statistics(self) -> Statistics:
        return Statistics(self.resamples, self.seed, self.margin, self.adjust, self.cluster)
