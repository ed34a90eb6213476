"""Which replays are compared with a full run of the network.

A replay computes what depends on the tensors that a variant changes, whatever they become. So of
the variants that change the same tensors and build on the same base, a few stand for all, as long
as none of them is found to differ.
"""

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from ablate_kit.sweeps.variants.variant import Variant

OF_ALIKE = 3  # variants that change the same are checked on their first batch
AGAIN = 16  # of so many forward passes of the unmodified model, a variant is checked on one


class FullChecks:
    """Decides, variant by variant, and learns from what came of it."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._seen: set[str] = set()  # digests of variants that have had their first batch
        self._checked: set[str] = set()
        self._equal: Counter[Hashable] = Counter()  # of those alike, how many were as the full run
        self._doubted: set[Hashable] = set()  # where one was not
        self._passes = 0  # of the unmodified model

    def drawn(self, variants: Sequence[Variant], *, now: bool = False) -> str:
        """The digest of a variant that is to be checked in this pass of the unmodified model, of
        those that never were first; empty: none. ``now``: if this is the first pass."""
        self._passes += 1
        due = self._passes % AGAIN == 0 or (now and self._passes == 1)
        if not self._enabled or not due or not variants:
            return ""
        fresh = [one for one in variants if one.digest not in self._checked]
        return random.Random(str(self._passes)).choice(fresh or variants).digest

    def first(self, variant: Variant, alike: Hashable) -> bool:
        """Whether it is to be checked because nothing vouches for it yet; ``alike`` is equal for
        those of which some stand for all."""
        if not self._enabled or variant.digest in self._checked:
            return False
        if alike in self._doubted:
            return True
        return variant.digest not in self._seen and self._equal[alike] < OF_ALIKE

    def note(self, variant: Variant, alike: Hashable, *, equal: bool) -> None:
        """What a check has shown."""
        self._checked.add(variant.digest)
        if equal:
            self._equal[alike] += 1
        else:
            self._doubted.add(alike)

    def unknown(self, variant: Variant) -> bool:
        """Whether it, or what it is like, runs for the first time."""
        return variant.digest not in self._seen

    def done(self, variants: Iterable[Variant]) -> None:
        """They have had a batch."""
        self._seen |= {one.digest for one in variants}
