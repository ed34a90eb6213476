"""Parts of consecutive layers, removed progressively."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import TensorLike, attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import Factors
from ablate_kit.ablations.kinds.kind import Kind, KindContext
from ablate_kit.ablations.kinds.zeros import zeroed
from ablate_kit.ablations.name_patterns import spans
from ablate_kit.anatomy.anatomy import Anatomy
from ablate_kit.errors import UserError, did_you_mean

Mode = Literal["progressive", "each", "backward"]


def _parts(
    tensors: Mapping[str, TensorLike], base: str, part: str, where: str
) -> dict[int, list[str]]:
    """The tensors of ``part`` of every layer that has it."""
    found: dict[int, list[str]] = {}
    inside: dict[str, None] = {}  # in the order of the tensors
    for name in tensors:
        match = re.fullmatch(rf"{re.escape(base)}\.(\d+)\.(.+)", name)
        if match is None:
            continue
        inside[match[2]] = None
        if match[2] == part or match[2].startswith(f"{part}."):
            found.setdefault(int(match[1]), []).append(name)
    if not inside:
        bases = _bases(tensors)
        near = did_you_mean(base, bases)
        listed = f"; it has {', '.join(bases[:8])}" if bases and not near else ""
        raise UserError(f'no layers under "{base}" in {where}{near}{listed}')
    if not found:
        parts = list(dict.fromkeys(name.split(".")[0] for name in inside))
        raise UserError(
            f'the layers under "{base}" have no part "{part}"'
            f"{did_you_mean(part, parts) or '; they have ' + ', '.join(parts)}"
        )
    return found


def _bases(tensors: Collection[str]) -> list[str]:
    """All name prefixes that are followed by a number."""
    found = (match for name in tensors for match in re.finditer(r"\.\d+(?=\.)", name))
    return sorted({match.string[: match.start()] for match in found}, key=lambda x: (len(x), x))


def _sets(present: Sequence[int], mode: Mode) -> Iterator[list[int]]:
    if mode == "each":
        yield from ([layer] for layer in present)
        return
    order = present if mode == "progressive" else present[::-1]
    yield from (sorted(order[: i + 1]) for i in range(len(order)))


def _removal(
    names: Sequence[str], tensors: Mapping[str, TensorLike], anatomy: Anatomy
) -> Iterator[Edit]:
    own = {name: tensors[name] for name in names}
    sampling = [
        attention
        for attention in attentions(own, heads=1, anatomy=anatomy)
        if attention.samples_without_projection
    ]
    # Offsets only leave the map if what scales them stays as it is.
    stays = tuple(f"{attention.prefix}." for attention in sampling)
    yield from zeroed(
        (name for name in names if not name.startswith(stays)),
        {name: tensors[name].shape for name in names},
    )
    for attention in sampling:
        yield from attention.remove([0])


@dataclass(frozen=True, kw_only=True)
class Layers(Kind):
    """The same part of more and more layers."""

    kind: Literal["layers"] = "layers"
    base: str  # the list of layers, such as decoder.layers
    part: str  # of each layer, such as cross_attn
    mode: Mode = "progressive"

    def make(self, source: KindContext) -> list[Ablation]:
        """``progressive`` cuts layer 0, then 0-1, 0-2 and so on; ``backward`` starts at the last;
        ``each`` cuts one layer at a time.

        All tensors of the part become zero, which removes what it adds to the stream. Deformable
        attention without value and output projection would still sample then, so its sampling
        points are moved off the map as well.
        """
        tensors, anatomy = source.checkpoint.tensors, source.anatomy
        of_layer = _parts(tensors, self.base, self.part, str(source.checkpoint))
        found = []
        for chosen in _sets(sorted(of_layer), self.mode):
            edits = [one for layer in chosen for one in _removal(of_layer[layer], tensors, anatomy)]
            factors: Factors = {
                "target": f"{self.base}.*.{self.part}",
                "part": self.part,
                "mode": self.mode,
                "layers": len(chosen),
                **({"layer": chosen[0]} if len(chosen) == 1 else {}),
            }
            name = f"{self.base}.{spans(chosen)}.{self.part}"
            found.append(Ablation(name, "layers", tuple(edits), factors=factors))
        return found
