"""More and more of what other lines cut one by one, cut at once: what costs least goes first.

The order is that of a sweep's own numbers, so that the cuts are only known when the other lines are
evaluated. Each is a joint cut that is evaluated itself: what parts cost one by one does not add up.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.factors import Factors
from ablate_kit.ablations.kinds.combination import parts
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Patterns, listed
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import Key, metric

POINTS = 12


@dataclass(frozen=True, kw_only=True)
class Ranked(Kind):
    """The first one, two, three ... of the parts, the one that is missed least first.

    ``members``: parts are the ablations of other lines whose names match a pattern, by default all.
    """

    kind: Literal["ranked"] = "ranked"
    members: Patterns | None = None
    points: Count = POINTS  # how many cuts, evenly spaced, the last of all parts
    metric: Key = "AP"  # by which they are ranked

    def make(self, source: KindContext) -> list[Ablation]:
        return []  # nothing is known before the other lines are evaluated

    def count(self, made: Mapping[str, Ablation]) -> int:
        """How many cuts there will be, or more; refuses members that are not there."""
        return min(self.points, len(parts(made, self.members)))

    def combine(
        self, made: Mapping[str, Ablation], values: Mapping[str, float | None]
    ) -> list[Ablation]:
        """Of ablations by name, random controls left out; ``values`` of the metric by digest.

        A part that says another thing of an element than those before it is left out.
        """
        direction = metric(self.metric).direction

        def missed_least(one: Ablation) -> float:
            value = values.get(one.digest)
            return float("inf") if value is None else -direction * value

        order = sorted(parts(made, self.members), key=missed_least)
        unions, taken = [order[0]], [order[0].name]
        for part in order[1:]:
            with suppress(UserError):
                unions.append(joined(unions[-1], part))
                taken.append(part.name)
        sizes = np.unique(np.linspace(1, len(unions), min(self.points, len(unions))).round())
        counts = [int(size) for size in sizes]
        return [
            self._point(unions[count - 1], count, taken[before:count], len(unions))
            for before, count in zip([0, *counts], counts, strict=False)
        ]

    def _point(self, union: Ablation, count: int, added: Sequence[str], of: int) -> Ablation:
        label = "+".join(map(file_name, listed(self.members or ()))) or "all"
        factors: Factors = {
            "target": label,
            "order": "ranking",
            "dropped": count,
            "of": of,
            "added": " ".join(added),
        }
        return replace(union, name=f"{label}-ranked-{count}of{of}", kind="ranked", factors=factors)
