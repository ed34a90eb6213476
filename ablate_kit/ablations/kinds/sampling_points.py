"""Sampling points of deformable attention, and all points of one level, removed exactly.

Every head samples ``levels x points`` places and sums them with weights from a softmax. A point can
be removed in two ways:

* ``renormalized``: its logit becomes so low that its weight is zero; the softmax gives its share to
  the points that remain.
* ``lost``: its offset leads off the map, where zeros are read; its weight stays and adds nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Naturals
from ablate_kit.ablations.name_patterns import file_name, spans
from ablate_kit.anatomy.anatomy import USUAL, Anatomy, evenly
from ablate_kit.anatomy.schemes import scheme_of
from ablate_kit.errors import UserError
from ablate_kit.plural import counted

DEFORMABLE = "deformable"  # the layout
Share = Literal["renormalized", "lost"]


def points_per_level(
    attention: Attention,
    config: Mapping[str, Any] | None,
    levels: int | None = None,
    anatomy: Anatomy = USUAL,
) -> tuple[int, ...]:
    """How many points a head has on each level, in the order of its rows.

    Args:
        attention: of the deformable layout.
        config: the model's own.
        levels: how many there are, whatever the config says.

    Raises ``UserError`` for another layout, and where nothing tells.
    """
    if attention.layout.name != DEFORMABLE:
        raise UserError(f"{attention.prefix} is no deformable attention: it has no sampling points")
    rows = attention.tensors["attention_weights.weight"].shape[0]
    total, rest = divmod(rows, attention.head_count())
    if rest:
        raise UserError(
            f"{attention.name_of('attention_weights.weight')} has {rows} rows, which cannot be "
            f"divided among {attention.head_count()} heads"
        )
    split = evenly(total, levels) if levels else anatomy.sampling_points(total, config or {})
    if split is None:
        raise UserError(
            f"cannot tell on how many levels {attention.prefix} samples its {total} points per "
            "head; give --num-levels"
        )
    return split


def removed(
    attention: Attention, points: Iterable[int], total: int, share: Share
) -> tuple[Edit, ...]:
    """The edits that remove these points of every head; ``total`` is a head's number of points."""
    chosen = sorted(set(points))
    for point in chosen:
        if not 0 <= point < total:
            raise UserError(
                f"{attention.prefix} has no point {point}; a head has {total}, 0 to {total - 1}"
            )
    if share == "renormalized":
        if len(chosen) == total:
            raise UserError(
                f"no point of {attention.prefix} would remain to take the others' share; "
                "remove all of them as lost"
            )
        return _rows(attention, "attention_weights", chosen, total, 1, -attention.off_map)
    if attention.clamped:
        raise UserError(
            f"{attention.prefix} moves points that are off the map onto its edge "
            '(decoder_method "discrete"), so that none can be lost; remove them renormalized'
        )
    return _rows(attention, "sampling_offsets", chosen, total, 2, attention.off_map)


def _rows(
    attention: Attention, layer: str, points: Sequence[int], total: int, width: int, value: float
) -> tuple[Edit, ...]:
    """Of these points' rows the weights become zero and the biases ``value``, in every head."""
    if f"{layer}.bias" not in attention.tensors:
        raise UserError(f"{attention.name_of(layer)} has no bias to remove a point with")
    places = [head * total + point for head in range(attention.head_count()) for point in points]
    ranges = tuple((place * width, (place + 1) * width) for place in places)
    return (
        Edit(attention.name_of(f"{layer}.weight"), Blocks(0, ranges)),
        Edit(attention.name_of(f"{layer}.bias"), Blocks(0, ranges), value),
    )


def _sampling(
    source: KindContext, pattern: str, num_heads: int | None, num_levels: int | None
) -> list[tuple[Attention, tuple[int, ...]]]:
    config = source.checkpoint.settings
    scheme = scheme_of(source.checkpoint.tensors)
    if scheme:
        num_levels = num_levels or scheme.levels
    found = source.attentions(pattern, num_heads)
    deformable = [one for one in found if one.layout.name == DEFORMABLE]
    # Of what a pattern names its deformable attentions are meant; where there are none, it is told.
    return [
        (attention, points_per_level(attention, config, num_levels, source.anatomy))
        for attention in deformable or found
    ]


@dataclass(frozen=True, kw_only=True)
class Points(Kind):
    """Each sampling point of each module, in all of its heads."""

    kind: Literal["points"] = "points"
    pattern: str
    num_heads: Count | None = None
    num_levels: Count | None = None  # where the checkpoint's config does not tell
    points: Naturals | None = None  # of a head, level by level; all by default
    share: Share = "renormalized"

    def make(self, source: KindContext) -> list[Ablation]:
        found = []
        for attention, split in _sampling(source, self.pattern, self.num_heads, self.num_levels):
            places = [(level, point) for level, count in enumerate(split) for point in range(count)]
            for number in range(len(places)) if self.points is None else dict.fromkeys(self.points):
                edits = removed(attention, [number], len(places), self.share)
                level, point = places[number]
                name = f"{attention.prefix}-level{level}-point{point}-{self.share}"
                place = {"level": level, "point": point, "share": self.share}
                factors = of_module(attention.prefix) | place
                found.append(Ablation(name, "points", edits, factors=factors))
        return found


@dataclass(frozen=True, kw_only=True)
class PointLevels(Kind):
    """All sampling points on each level: of each module, or of all at once."""

    kind: Literal["point-levels"] = "point-levels"
    pattern: str
    num_heads: Count | None = None
    num_levels: Count | None = None
    levels: Naturals | None = None  # all by default
    together: bool = False  # one variant per level, without it in all modules
    share: Share = "renormalized"

    def make(self, source: KindContext) -> list[Ablation]:
        modules = _sampling(source, self.pattern, self.num_heads, self.num_levels)
        label = file_name(self.pattern) if self.together else None
        found = []
        for group in [modules] if label else [[one] for one in modules]:
            first = group[0][0].prefix
            levels = _levels_of_all(group) if self.levels is None else self.levels
            for level in dict.fromkeys(levels):
                edits: list[Edit] = []
                for attention, split in group:
                    if level >= len(split):
                        there = spans(range(len(split)))
                        raise UserError(f"{attention.prefix} has no level {level}; it has {there}")
                    bounds = [0, *accumulate(split)]
                    start, stop = list(pairwise(bounds))[level]
                    edits += removed(attention, range(start, stop), bounds[-1], self.share)
                name = f"{label or first}-level{level}-{self.share}"
                cut: Factors = {"target": label} if label else of_module(first)
                factors: Factors = {**cut, "level": level, "share": self.share}
                found.append(Ablation(name, "point-levels", tuple(edits), factors=factors))
        return found


def _levels_of_all(group: Sequence[tuple[Attention, Sequence[int]]]) -> range:
    """The levels of each of these; refuses modules with other numbers of levels."""
    fewest, most = (choose(group, key=lambda one: len(one[1])) for choose in (min, max))
    if len(fewest[1]) < len(most[1]):
        raise UserError(
            f"{fewest[0].prefix} has {counted(len(fewest[1]), 'level')} and {most[0].prefix} "
            f"{len(most[1])}; to remove levels of both together, name levels that both have"
        )
    return range(len(most[1]))
