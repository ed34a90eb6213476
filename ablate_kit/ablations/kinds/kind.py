"""What a line of a recipe must offer: ablations of a checkpoint.

A kind is a frozen dataclass in a file of its own, registered in ``kind_registry``. Its fields are
the keys that a recipe may set; ``kind`` is the name that a recipe gives.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Protocol

from annotated_types import MinLen

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, select_attentions
from ablate_kit.ablations.name_patterns import Pattern, select
from ablate_kit.anatomy import head_counts
from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from detector.bounds import Count as Count
from detector.bounds import Natural as Natural

if TYPE_CHECKING:
    from torch import nn

Numbers = Annotated[list[float], MinLen(1)]
Naturals = Annotated[list[Natural], MinLen(1)]
Patterns = Annotated[list[str], MinLen(1)] | str  # several in a list, or one


class Reference(Protocol):
    """A checkpoint's model that runs on images, for kinds that look at what it computes."""

    @property
    def module(self) -> "nn.Module": ...

    def names_of(self, tensor: str) -> Sequence[str]:
        """A checkpoint's tensor's names in ``module.state_dict()``."""

    def run(self, images: int | None) -> None:
        """Passes over the first so many images; by default 32, or all where there are fewer."""


class Live(Protocol):
    """A checkpoint's model in memory; as ``models.adapter.Adapter``."""

    @property
    def module(self) -> "nn.Module": ...

    def live_names(self) -> Mapping[str, Sequence[str]]: ...


@dataclass(frozen=True)
class KindContext:
    """What ablations are made for; ``open`` gives the model with images, where there are some, and
    ``live`` the model alone; ``anatomy`` tells where models of its framework keep their parts."""

    checkpoint: Checkpoint
    open: Callable[[], Reference] | None = None
    live: Callable[[], Live] | None = None
    anatomy: Anatomy = USUAL

    def reference(self) -> Reference:
        if self.open is None:
            raise UserError("means are taken over images, and none are given")
        return self.open()

    def floating(self, pattern: str) -> list[str]:
        """The floating tensors that a pattern names, each once whatever its names."""
        return list(self.checkpoint.distinct(floating_names(self.checkpoint, pattern)))

    def modules(self, patterns: Sequence[str]) -> dict[str, list[str]]:
        """The floating tensors of each module that a pattern names."""
        found: dict[str, list[str]] = {}
        for pattern in listed(patterns):
            if pattern.endswith("**"):  # modules, what they consist of, and that in turn
                raise UserError(
                    f'cannot tell which modules "{pattern}" names: end it with their own name, '
                    "such as **.ffn, or use * for a level"
                )
            wanted = Pattern(pattern)
            for name in floating_names(self.checkpoint, pattern):
                for module in wanted.modules(name):
                    found.setdefault(module, []).append(name)
        return {module: list(self.checkpoint.distinct(names)) for module, names in found.items()}

    def attentions(
        self, pattern: str, num_heads: int | None, layers: Collection[int] | None = None
    ) -> list[Attention]:
        """The attention modules that a pattern names; of ``{layer}`` only these ``layers``."""
        checkpoint = self.checkpoint
        found = select_attentions(
            pattern,
            checkpoint.tensors,
            str(checkpoint),
            config=checkpoint.settings,
            heads=num_heads,
            layers=layers,
            modules=checkpoint.modules_above,
            anatomy=self.anatomy,
            unsupported=checkpoint.unsupported,
            quantized=checkpoint.quantized,
        )
        # Arguments of a training script tell of networks that they do not name.
        sure = checkpoint.config is not None or num_heads is not None
        return [one if one.told and sure else self._asked(one) for one in found]

    def _asked(self, attention: Attention) -> Attention:
        """The same where the file tells no number of heads for certain: the running model may."""
        if self.live is None:
            return attention
        live = self.live()
        known = live.live_names()
        names = [
            name for own in attention.tensors for name in known.get(attention.name_of(own), ())
        ]
        return replace(attention, told=head_counts.of_live(live.module, names) or attention.told)


def floating_names(checkpoint: Checkpoint, pattern: str) -> list[str]:
    """The floating tensors that a pattern names, never none; of integers nothing can be cut."""
    tensors = checkpoint.tensors
    names = select(pattern, tensors, str(checkpoint), unsupported=checkpoint.unsupported)
    # A quantized weight is refused, not left as it is.
    found = [n for n in names if tensors[n].is_floating or n in checkpoint.quantized]
    if not found:
        dtype = tensors[names[0]].dtype
        raise UserError(f"{names[0]} holds {dtype}; only floating tensors can be cut")
    return found


def listed(patterns: str | Sequence[str]) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """Ablations of one kind."""

    null_cuts: Natural = 0  # random cuts of the same size, for each ablation, to read it against

    @abstractmethod
    def make(self, source: KindContext) -> list[Ablation]:
        """All of them, for a checkpoint; raises ``UserError`` where it has no such parts."""
