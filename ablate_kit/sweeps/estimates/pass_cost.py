"""What the forward passes of a sweep cost, before they are run."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.sweeps.estimates.timed_pass import timed_pass
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.plan import BASELINE, shares
from ablate_kit.sweeps.open_sweep import OpenSweep
from ablate_kit.sweeps.variants.variant import UNMODIFIED


@dataclass(frozen=True)
class PassCost:
    """Forward passes as shares of a pass of the unmodified model.

    Attributes:
        rows: of each variant: its name, where it restarts, on top of which variant, its share.
        share: of all passes against running each in full, after the first batch.
        parts: how often the unmodified model runs on a batch.
        notes: what cannot be replayed.
        decoding: share of the time of these passes and the decoding after each; 0 where nothing
            is replayed.
    """

    rows: Sequence[tuple[str, str, str, float]]
    share: float
    parts: int
    notes: Sequence[str]
    decoding: float = 0.0


def pass_cost(sweep: OpenSweep, memory: float) -> PassCost:
    """By a few passes over the first image; ``memory`` as in ``RunOptions``."""
    adapter, variants = sweep.adapter, sweep.variants
    image = adapter.prepare(sweep.dataset.image(0))
    with VariantExecutor(adapter, memory=memory) as passes:
        made = passes.look([image], variants)
    if made is None or passes.trace is None:
        return PassCost([], 1.0, 1, passes.notes)
    found = shares(passes.trace, made)
    names = {i: one.name for i, one in enumerate(variants)} | {BASELINE: UNMODIFIED.name}
    rows = []
    for i, one in enumerate(variants):
        where, base, share = found.get(i, ("the start", None, 1.0))
        rows.append((one.name, where, names.get(base, "-") if base is not None else "-", share))
    total = sum(share for *_, share in rows) + len(made.parts)
    share = total / (len(variants) + 1)
    decoding = timed_pass(adapter, [image]).share_of_decoding(share)
    return PassCost(rows, share, len(made.parts), passes.notes, decoding=decoding)
