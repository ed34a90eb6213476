"""Heads whose output comes from another image.

The head says something about an image, only not about this one: what it gives is as usual as ever,
which neither zero nor a mean is. No file can hold that, so it is for live models.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.edits import Blocks, Resampled
from ablate_kit.ablations.factors import of_module
from ablate_kit.ablations.kinds.drawn import drawn
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Naturals
from ablate_kit.errors import UserError


def check_batches(ablations: Iterable[Ablation], images: int, batch_size: int) -> None:
    """Raises ``UserError`` where an ablation resamples and an image would be alone in its batch."""
    name = next((one.name for one in ablations if _resamples(one)), None)
    if name and images % batch_size == 1 % batch_size:
        raise UserError(
            f"{name} takes from other images of a batch, and {images} images in batches of "
            f"{batch_size} leave one alone; choose another batch_size"
        )


def _resamples(ablation: Ablation) -> bool:
    return any(isinstance(one, Resampled) for one in ablation.live)


def _resampled(module: Attention, head: int, seed: int, draw: int) -> list[Resampled]:
    if not module.outputs:
        raise UserError(
            f"{module.prefix} has no output projection ({' or '.join(module.layout.output)}), so "
            "that it is not known where its heads' outputs are"
        )
    # Which tells the head's columns, or that there is none.
    found: list[Resampled] = []
    for edit in module.remove([head]):
        if not isinstance(edit.region, Blocks):
            raise TypeError(f"a head of {module.prefix} is no block of columns")
        first = found[0].tensor if found else None
        found.append(Resampled(edit.tensor, edit.region.ranges, seed, draw, first))
    return found


@dataclass(frozen=True, kw_only=True)
class HeadsResampled(Kind):
    """Each head of the modules, with its output of another image."""

    kind: Literal["heads-resampled"] = "heads-resampled"
    pattern: str
    num_heads: Count | None = None
    heads: Naturals | None = None  # of each module, one by one; all by default
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per module, head and repeat: images of a batch get the head of one another.

        Within a batch each image gets the head's output of the image so many places before it, a
        number drawn for each repeat. All else runs on the image itself, the other heads included.
        Raises ``UserError`` for a module without an output projection.
        """
        chosen = None if self.heads is None else sorted(set(self.heads))
        return [
            drawn(
                f"{module.prefix}-head{head}-resampled",
                draw,
                "heads-resampled",
                (),
                of_module(module.prefix) | {"head": head},
                _resampled(module, head, self.seed, draw),
            )
            for module in source.attentions(self.pattern, self.num_heads)
            for head in (range(module.head_count()) if chosen is None else chosen)
            for draw in range(self.repeats)
        ]
