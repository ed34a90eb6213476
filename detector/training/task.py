"""What the training loop trains: detection and classification are two tasks of one loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from detector.config import HybridConfig
from detector.data.training_set import Items
from detector.training.ema import Ema
from detector.training.recipes.loop_recipe import LoopOptions

Record = dict[str, float | None]
"""A row of the history; None where nothing was measured."""

Forward = Callable[..., Any]
"""The network in the run's precision, its outputs in float32."""


class Recipe(Protocol):
    @property
    def training(self) -> LoopOptions: ...

    def multipliers(self) -> dict[str, float]:
        """Learning rate of each kind of parameter over the base rate."""

    def resolved(self) -> dict[str, Any]:
        """Everything filled in, as plain values."""

    def placed(self) -> AbstractContextManager[None]:
        """Says of a wrong value where it stands."""


@dataclass(frozen=True)
class Best:
    """The weights of a run with the best score so far."""

    weights: Mapping[str, Tensor]  # of the model, or their moving average (``is_average``)
    score: float  # of these very weights
    epoch: int  # finished ones, from which they are
    is_average: bool
    origin: Mapping[str, str]  # of the first weights, where they were not drawn


class Task(Protocol):
    """A model, its data, the loss of a batch, its evaluation and what is kept of the best weights.

    Attributes:
        kind: of the run, as messages name it.
        measures: terms that are no losses; their means over an epoch join the history.
        best_name: under which a checkpoint keeps the best score.
        items: what the images of a batch are, by (epoch, index) and perhaps a size.
        sizes: input sizes that vary by batch; none: one.
    """

    kind: str
    measures: Sequence[str]
    best_name: str
    model: Any
    config: HybridConfig

    @property
    def recipe(self) -> Recipe: ...

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def items(self) -> Items: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    def collate(self, items: Sequence[Any], /) -> Any: ...

    def image_id(self, index: int) -> int:
        """What the data set calls an image."""

    def losses(self, forward: Forward, batch: Any, epoch: int, number: int) -> dict[str, Tensor]:
        """The terms of the loss of batch ``number`` of an epoch, their sum as ``loss``, and the
        ``measures``."""

    def evaluate(self, ema: Ema | None, *, due: bool) -> Record:
        """The model's numbers and those of its average; None where they are not due."""

    def score(self, record: Record, *, average: bool) -> float | None:
        """Which of the numbers chooses the best weights; the more, the better."""

    def must_not_change(self) -> Iterable[tuple[str, str]]:
        """Settings of the recipe, (section, key), that a resumed run has to share."""

    def about(self) -> Mapping[str, str]:
        """What a checkpoint says of the model, beside weights and classes."""

    def write_config(self, folder: Path) -> None:
        """What the folder says of the run before its first epoch, beside the recipe."""

    def export(self, folder: Path, best: Best) -> None:
        """Writes the best weights by themselves."""

    def exported(self, folder: Path) -> Path:
        """The file that ``export`` writes."""


class Progress(Protocol):
    """Callbacks of a run."""

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        """An epoch begins, or is resumed after ``done`` of its batches."""

    def batch(self, values: Mapping[str, float] | None) -> None:
        """One batch is done; with loss, rate and the like where a log line was due."""

    def finish(self, record: Mapping[str, float | None]) -> None:
        """One epoch is done, evaluation included."""
