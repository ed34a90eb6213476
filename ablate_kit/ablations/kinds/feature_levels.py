"""Levels of the feature pyramid: what one brings in becomes zero.

A level comes into a detection transformer through a projection of its own (a convolution, usually
with a norm). With all weights and biases of that projection zero its output is exactly zero. The
level's tokens or cells are still there, with their positions, and take part in what comes after:
an encoder or a neck may fill them from the other levels.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Naturals
from ablate_kit.ablations.kinds.zeros import zeroed
from ablate_kit.ablations.name_patterns import select
from ablate_kit.anatomy.anatomy import Anatomy
from ablate_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Levels(Kind):
    """Levels of the feature pyramid, one by one."""

    kind: Literal["levels"] = "levels"
    base: str  # the list of projections, such as ``model.input_proj``; of each level one
    levels: Naturals | None = None  # by their numbers under ``base``; all by default

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per level: its projection under ``base`` gives zero.

        Raises ``UserError`` where nothing is under ``base``, or a level has no projection.
        """
        base, tensors, where = self.base, source.checkpoint.tensors, str(source.checkpoint)
        start = f"{base}."
        found: dict[int, list[str]] = {}
        for name in tensors:
            number = name.removeprefix(start).split(".")[0] if name.startswith(start) else ""
            if number.isdecimal() and name.rpartition(".")[2] in ("weight", "bias"):
                found.setdefault(int(number), []).append(name)
        if not found:
            select(base, tensors, where)  # which tells what is near
            near = _lists(tensors, source.anatomy)
            raise UserError(f'"{base}" in {where} is no list of projections{near}')
        for level in self.levels or ():
            if level not in found:
                raise UserError(
                    f"{base} has no weights for level {level}: it has them for "
                    f"{', '.join(map(str, sorted(found)))}"
                )
        return [
            Ablation(
                f"{base}.{level}",
                "levels",
                tuple(zeroed(found[level], source.checkpoint.shapes)),
                factors={"target": base, "level": level},
            )
            for level in (sorted(found) if self.levels is None else dict.fromkeys(self.levels))
        ]


def _lists(tensors: Collection[str], anatomy: Anatomy) -> str:
    bases: dict[str, None] = {}
    for name in tensors:
        parts = name.split(".")
        for i, part in enumerate(parts[:-1]):
            if part in anatomy.level_lists and parts[i + 1].isdecimal():
                bases[".".join(parts[: i + 1])] = None
    return f"; it may mean {', '.join(bases)}" if bases else ""
